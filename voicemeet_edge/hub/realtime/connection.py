"""One client's WebSocket on the Realtime server: its channels, what it sends, what waits for it.

Rule: a client can only hurt itself. A malformed frame is counted and dropped, a slow reader and a
flood lose their socket, a refused write changes nothing; no other member notices.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMsgType, web

from voicemeet_edge.errors import FrameError
from voicemeet_edge.hub.limits import Bucket, Limiter
from voicemeet_edge.hub.realtime.authorizer import Authorizer, Claims, TokenError, TokenFault
from voicemeet_edge.hub.realtime.options import RealtimeCounters, RealtimeOptions
from voicemeet_edge.hub.realtime.topics import CALL_PREFIX, Membership, Outgoing, Topics, broadcast_frame
from voicemeet_edge.hub.tls import cut
from voicemeet_edge.records import dataclass
from voicemeet_edge.signaling.channel import TOPIC_PREFIX
from voicemeet_edge.signaling.frames import Broadcast, Layout, PhoenixFrame, Version, broadcast_of, decode

logger = logging.getLogger(__name__)

_FAULT_TEXTS = {
    TokenFault.MALFORMED: "MalformedJWT: The token provided is not a valid JWT",
    TokenFault.SIGNATURE: "JwtSignatureError: Failed to validate JWT signature",
    TokenFault.CLAIMS: "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
}


def fault_text(error: TokenError) -> str:
    """Say what is wrong with a token in Realtime's words, which its clients match on."""
    if error.kind is TokenFault.EXPIRED:
        return f"InvalidJWTToken: Token has expired {error.expired_s:.0f} seconds ago"
    return _FAULT_TEXTS[error.kind]


@dataclass(slots=True)
class Shared:
    """What all connections of one server share."""

    authorizer: Authorizer
    options: RealtimeOptions
    topics: Topics
    counters: RealtimeCounters
    address_bytes: Limiter
    unix: Callable[[], float] = time.time
    """What tokens are dated by."""


class _RefusedError(Exception):
    """A join is refused; the text is its reason."""


class Connection:
    """One open socket."""

    __slots__ = (
        "_address",
        "_buckets",
        "_closer",
        "_has_joined",
        "_is_known",
        "_malformed",
        "_now",
        "_on_joined",
        "_on_known",
        "_outbox",
        "_outbox_bytes",
        "_shared",
        "_websocket",
        "_writer",
        "apikey_claims",
        "channels",
        "last_seen",
        "transport",
        "version",
    )

    def __init__(
        self,
        shared: Shared,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        version: Version,
        claims: Claims,
        *,
        address: str = "",
        on_known: Callable[[], None] = lambda: None,
        on_joined: Callable[[], None] = lambda: None,
    ) -> None:
        """`address` is whose share it draws from until a token is shown that a pass stands behind."""
        self._shared = shared
        self._address = address
        self._on_known = on_known
        self._on_joined = on_joined
        self._is_known = False
        self._has_joined = False
        self._malformed = 0
        self._websocket = websocket
        self.transport = transport
        self.version = version
        self.apikey_claims = claims
        self.channels: dict[str, Membership] = {}
        self._now = asyncio.get_running_loop().time
        self.last_seen = self._now()
        self._buckets: dict[str, Bucket] = {}  # made at first use: an idle socket needs none
        self._outbox: deque[str | bytes] = deque()
        self._outbox_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._closer: asyncio.Task[object] | None = None

    async def run(self) -> None:
        """Read until the socket is gone, then leave every topic."""
        counters = self._shared.counters
        try:
            async for message in self._websocket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                self.last_seen = self._now()
                counters.frames += 1
                if not self._take("frames") or not self._take_bytes(len(message.data)):
                    counters.too_fast += 1
                    self.close(WSCloseCode.POLICY_VIOLATION)
                    break
                try:
                    frame = decode(message.data, self.version)
                except FrameError:
                    counters.malformed += 1
                    self._malformed += 1
                    if self._malformed > self._shared.options.max_malformed:
                        self.close(WSCloseCode.PROTOCOL_ERROR)
                        break
                    continue
                await self._handle(frame)
        finally:
            for channel in list(self.channels.values()):
                self._leave(channel)
            self._outbox.clear()
            if self._writer is not None:
                self._writer.cancel()
            if self._closer is not None:
                await asyncio.gather(self._closer, return_exceptions=True)

    def close(self, code: int) -> None:
        """Say goodbye and hang up, in the background; `run` ends by it."""
        if self._closer is None:
            self._closer = asyncio.create_task(self._websocket.close(code=code))

    def abort(self) -> None:
        """Cut the connection: whoever is on the other side does not read."""
        cut(self.transport)

    def deliver(self, outgoing: Outgoing) -> bool:
        """Queue a frame for this client; drops a client that does not read."""
        data = outgoing.encoded(self.version)
        if data is None or self._closer is not None or self._websocket.closed:
            return False
        options = self._shared.options
        if len(self._outbox) >= options.max_queue or self._outbox_bytes > options.max_queue_bytes:
            self._shared.counters.dropped_slow += 1
            self._outbox.clear()
            self.abort()
            return False
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        if self._writer is None:
            # Only while there is something to write: 5,000 idle sockets need no 5,000 tasks.
            self._writer = asyncio.create_task(self._write())
        return True

    async def _write(self) -> None:
        try:
            while self._outbox:
                data = self._outbox.popleft()
                self._outbox_bytes -= len(data)
                if isinstance(data, str):
                    await self._websocket.send_str(data)
                else:
                    await self._websocket.send_bytes(data)
        except (ConnectionError, RuntimeError):
            # RuntimeError: aiohttp's word for a socket that is closing. `run` cleans up.
            self._outbox.clear()
        finally:
            self._writer = None
            self._outbox_bytes = sum(len(data) for data in self._outbox)

    def close_channel(self, channel: Membership, message: str) -> None:
        """End a channel from the server's side: a `system` error, then `phx_close`."""
        payload: dict[str, object] = {
            "extension": "system",
            "status": "error",
            "message": message,
            "channel": channel.name,
        }
        self.deliver(Outgoing(PhoenixFrame(channel.join_ref, None, channel.topic, "system", payload)))
        self._close(channel)

    def expire(self, now: float) -> None:
        """Close the channels whose token is over."""
        for channel in [channel for channel in self.channels.values() if channel.expires_at <= now]:
            self._shared.counters.expired += 1
            self.close_channel(channel, f"Token has expired {now - channel.expires_at:.0f} seconds ago")

    def _close(self, channel: Membership) -> None:
        self._leave(channel)
        join_ref = channel.join_ref
        self.deliver(Outgoing(PhoenixFrame(join_ref, join_ref, channel.topic, "phx_close", {})))

    def _leave(self, channel: Membership) -> None:
        if self.channels.get(channel.topic) is channel:
            del self.channels[channel.topic]
        self._shared.topics.leave(channel)

    def _take(self, kind: str) -> bool:
        rate = getattr(self._shared.options, kind)
        bucket = self._buckets.get(kind)
        if bucket is None:
            bucket = self._buckets[kind] = Bucket(rate, self.last_seen)
        return not bucket.take(rate, self.last_seen)

    def _take_bytes(self, size: int) -> bool:
        """Count what a frame costs before it is read; a stranger's also against its address."""
        options = self._shared.options
        if not self._has_joined and size > options.max_stranger_bytes:
            return False
        bucket = self._buckets.setdefault("bytes", Bucket(options.bytes, self.last_seen))
        if bucket.take(options.bytes, self.last_seen, size) > 0:
            return False
        if self._is_known or not self._address:
            return True
        return self._shared.address_bytes.take(self._address, self.last_seen, size) == 0

    def _show(self, token: object) -> None:
        """Take note of a token that a pass stands behind: this is no stranger's socket."""
        if not self._is_known and isinstance(token, str) and self._shared.authorizer.is_enrolled(token):
            self._is_known = True
            self._on_known()

    def _reply(
        self, frame: PhoenixFrame, status: str, response: dict[str, object], join_ref: str | None = None
    ) -> None:
        payload: dict[str, object] = {"status": status, "response": response}
        self.deliver(
            Outgoing(PhoenixFrame(join_ref or frame.join_ref, frame.ref, frame.topic, "phx_reply", payload))
        )

    async def _handle(self, frame: PhoenixFrame) -> None:
        if frame.topic == "phoenix":
            if frame.event == "heartbeat":
                if isinstance(frame.payload, dict):
                    self._show(frame.payload.get("access_token"))
                self._reply(frame, "ok", {})
            return
        if frame.layout is Layout.TEXT and frame.event == "phx_join":
            await self._join(frame)
            return
        channel = self.channels.get(frame.topic)
        if channel is None:
            if frame.layout is Layout.TEXT and frame.event == "phx_leave":
                self._reply(frame, "ok", {})
            else:
                self._reply(frame, "error", {"reason": "unmatched topic"})
            return
        if frame.join_ref is not None and frame.join_ref != channel.join_ref:
            return  # meant for a join that is over; Phoenix says nothing either
        if frame.layout is not Layout.TEXT or frame.event == "broadcast":
            self._broadcast(channel, frame)
        elif frame.event == "phx_leave":
            self._reply(frame, "ok", {}, channel.join_ref)
            self._close(channel)
        elif frame.event == "access_token" and isinstance(frame.payload, dict):
            self._refresh(channel, frame.payload.get("access_token"))
        elif frame.event == "presence" and isinstance(frame.payload, dict):
            self._presence(channel, frame, frame.payload)

    async def _join(self, frame: PhoenixFrame) -> None:
        counters, options = self._shared.counters, self._shared.options
        payload = frame.payload if isinstance(frame.payload, dict) else {}
        is_flood = not self._take("joins")
        try:
            if is_flood:
                raise _RefusedError("ClientJoinRateLimitReached: Too many joins per second")
            old = self.channels.get(frame.topic)
            if old is not None:
                self._close(old)
            channel = self._admit(frame, payload)
        except _RefusedError as error:
            counters.refused_joins += 1
            await asyncio.sleep(options.join_error_delay_s)
            self._reply(frame, "error", {"reason": str(error)})
            if is_flood:
                counters.too_fast += 1
                self.close(WSCloseCode.POLICY_VIOLATION)
            return
        counters.replaced += self._shared.topics.join(channel)
        self.channels[channel.topic] = channel
        self._has_joined = True
        self._on_joined()
        self._show(channel.token)
        self._reply(frame, "ok", {"postgres_changes": []}, channel.join_ref)
        if channel.has_presence:
            state = self._shared.topics.presence_state(channel)
            self.deliver(
                Outgoing(PhoenixFrame(channel.join_ref, None, channel.topic, "presence_state", state))
            )

    def _admit(self, frame: PhoenixFrame, payload: dict[str, object]) -> Membership:
        """Check a join in Realtime's order: public, channels, token, policy."""
        options, authorizer = self._shared.options, self._shared.authorizer
        name = frame.topic.removeprefix(TOPIC_PREFIX)
        if not frame.topic.startswith(TOPIC_PREFIX):
            raise _RefusedError("unmatched topic")
        if not name:
            raise _RefusedError("TopicNameRequired: You must provide a topic name")
        config = _section(payload, "config")
        private = _truth(config.get("private"))
        if not private and not options.allow_public:
            raise _RefusedError("PrivateOnly: This project only allows private channels")
        if len(self.channels) >= options.max_channels:
            raise _RefusedError("ChannelRateLimitReached: Too many channels")
        token = payload.get("access_token") or payload.get("user_token")
        claims, token_text = self.apikey_claims, ""
        try:
            if isinstance(token, str) and not token.startswith("sb_"):
                claims, token_text = authorizer.token_claims(token), token
            elif claims.exp <= self._shared.unix():
                raise TokenError(TokenFault.EXPIRED, self._shared.unix() - claims.exp)
        except TokenError as error:
            raise _RefusedError(fault_text(error)) from None
        is_call = private and name.startswith(CALL_PREFIX)
        if not authorizer.may_read(claims, name, private) or (is_call and claims.slot is None):
            raise _RefusedError(
                f"Unauthorized: You do not have permissions to read from this Channel topic: {name}"
            )
        broadcast, presence = _section(config, "broadcast"), _section(config, "presence")
        key = presence.get("key")
        return Membership(
            sink=self,
            topic=frame.topic,
            join_ref=frame.join_ref or frame.ref,
            private=private,
            claims=claims,
            token=token_text,
            expires_at=self._expiry(claims),
            may_write=authorizer.may_write(claims, name, private),
            wants_ack=_truth(broadcast.get("ack")),
            wants_echo=_truth(broadcast.get("self")),
            has_presence=_truth(presence.get("enabled")),
            presence_key=key[:255] if isinstance(key, str) and key else str(uuid.uuid4()),
        )

    def _expiry(self, claims: Claims) -> float:
        return self._now() + claims.exp - self._shared.unix()

    def _refresh(self, channel: Membership, token: object) -> None:
        """Take a fresh token; silence means yes, as in Realtime."""
        if not isinstance(token, str) or token.startswith("sb_") or token == channel.token:
            return
        authorizer = self._shared.authorizer
        try:
            claims = authorizer.token_claims(token)
        except TokenError as error:
            self.close_channel(channel, fault_text(error))
            return
        # The slot a member has joined with is its own until it leaves: a token of the other slot
        # would put two members into one place.
        is_same = claims.slot == channel.claims.slot
        if not is_same or not authorizer.may_read(claims, channel.name, channel.private):
            self.close_channel(
                channel, f"You do not have permissions to read from this Channel topic: {channel.name}"
            )
            return
        channel.claims, channel.token, channel.expires_at = claims, token, self._expiry(claims)
        channel.may_write = authorizer.may_write(claims, channel.name, channel.private)

    def _broadcast(self, channel: Membership, frame: PhoenixFrame) -> None:
        counters, options = self._shared.counters, self._shared.options
        if not self._take("messages"):
            counters.too_fast += 1
            self.close_channel(channel, "Too many messages per second")
            return
        broadcast = broadcast_of(frame)
        refusal = ""
        if broadcast is None:
            refusal = "malformed_broadcast"
        elif _size(broadcast) > options.max_payload_bytes:
            refusal = "payload_size_exceeded"
        if broadcast is None or refusal:
            counters.malformed += 1
            if channel.wants_ack:
                self._reply(frame, "error", {"error": refusal, "reason": refusal}, channel.join_ref)
            return
        if not channel.may_write:
            counters.refused_writes += 1  # and no answer, as hosted: clients see a timeout
            return
        outgoing = broadcast_frame(channel.topic, broadcast, is_binary=frame.layout is not Layout.TEXT)
        self._shared.topics.heard(channel, broadcast.event)
        counters.delivered += self._shared.topics.broadcast(channel.topic, channel.private, outgoing, channel)
        if channel.wants_ack:
            self._reply(frame, "ok", {}, channel.join_ref)

    def _presence(self, channel: Membership, frame: PhoenixFrame, payload: dict[str, object]) -> None:
        if not self._take("presence"):
            self._shared.counters.too_fast += 1
            self.close_channel(channel, "Client presence rate limit exceeded")
            return
        event, tracked = payload.get("event"), payload.get("payload")
        if not channel.may_write:
            self._shared.counters.refused_writes += 1
            return
        match event.lower() if isinstance(event, str) else None:
            case "track":
                if not isinstance(tracked, dict):
                    self._reply(frame, "error", {"reason": "Presence track payload must be a map"})
                elif _json_size(tracked) > self._shared.options.max_presence_bytes:
                    self.close_channel(channel, "Track message size exceeded")
                elif not self._shared.topics.track(channel, tracked):
                    self._reply(frame, "error", {"reason": "Too many presences on this topic"})
                else:
                    self._reply(frame, "ok", {}, channel.join_ref)
            case "untrack":
                self._shared.topics.untrack(channel)
                self._reply(frame, "ok", {}, channel.join_ref)
            case _:
                self._reply(frame, "error", {"reason": "Unknown presence event"}, channel.join_ref)


def _size(broadcast: Broadcast) -> int:
    return len(broadcast.payload) if isinstance(broadcast.payload, bytes) else _json_size(broadcast.payload)


def _json_size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass"))


def _section(payload: dict[str, object], key: str) -> dict[str, object]:
    # A malformed config means defaults, as in Realtime: a channel, rather than an error nobody can explain.
    value = payload.get(key)
    return value if isinstance(value, dict) else {}


def _truth(value: object) -> bool:
    return value is True or value == "true"
