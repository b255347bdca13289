"""One Phoenix channel as a client sees it: join, rejoin, pushes, tokens; frames and `now` in,
frames, events and a deadline out.

Rule: no clock, no socket; every wait of this file is its `deadline`.

    WAITING ──connected/back-off over──► JOINING ──ok──► JOINED
       ▲  ◄──retryable refusal, timeout──┘  │             │ phx_error, socket gone ──► WAITING
       │                                    │             │
       └──set_token── TOKEN_WANTED ◄────────┴─────────────┤ token expired, phx_close
                      REFUSED ◄───────────────────────────┘ no retry can help
"""

from __future__ import annotations

import enum
import re
from dataclasses import field

from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.frames import PhoenixFrame, broadcast_of
from voicemeet_edge.signaling.reconnect import Backoff

TOPIC_PREFIX = "realtime:"  # every topic on the wire starts so; ours are without
PUSH_TIMEOUT_S = 10.0  # s; the official clients' value for joins and pushes
MAX_PENDING = 64  # pushes waiting for their reply; a call sends about ten messages in all


class ChannelState(enum.Enum):
    """Where the channel is; only JOINED carries messages."""

    WAITING = enum.auto()
    """Wants to be joined: the socket is down, or a back-off runs."""
    JOINING = enum.auto()
    JOINED = enum.auto()
    TOKEN_WANTED = enum.auto()
    """Closed by the server: decide, and rejoin by setting a fresh token."""
    REFUSED = enum.auto()
    """No retry can help (no permission, replaced by a newer join)."""
    CLOSED = enum.auto()
    """Left by us; final."""


class Verdict(enum.Enum):
    """What to do about a refusal (signaling facts, Realtime's error codes)."""

    FATAL = enum.auto()
    FRESH_TOKEN = enum.auto()
    RETRY = enum.auto()
    RETRY_LATER = enum.auto()


_FATAL_CODES = frozenset(
    {
        "MalformedJWT",
        "JwtSignatureError",
        "JwtSignerError",
        "Unauthorized",
        "PrivateOnly",
        "TopicNameRequired",
        "TenantNotFound",
        "RealtimeDisabledForTenant",
        "ReplacedByNewerJoin",  # our hub's: the same slot of a call joined again from elsewhere
    }
)
_LATER_CODES = frozenset(
    {"ConnectionRateLimitReached", "ClientJoinRateLimitReached", "ChannelRateLimitReached"}
)
_FATAL_TEXTS = ("permission", "are required in jwt")
_LATER_TEXTS = ("too many", "rate limit")


def classify(reason: str) -> Verdict:
    """Decide by the code a reason starts with, or by its text: `system` messages have no code."""
    code = reason.partition(":")[0].strip()
    text = reason.lower()
    # The docs say InvalidJWTExpiration, the server's source InvalidJWTToken. After "Server requested
    # disconnect" the owner decides too: the call may simply be over.
    if code.startswith("InvalidJWT") or "expired" in text or "requested disconnect" in text:
        return Verdict.FRESH_TOKEN
    if code in _FATAL_CODES:
        return Verdict.FATAL
    if code in _LATER_CODES:
        return Verdict.RETRY_LATER
    if any(part in text for part in _FATAL_TEXTS):
        return Verdict.FATAL
    if any(part in text for part in _LATER_TEXTS):
        return Verdict.RETRY_LATER
    return Verdict.RETRY


def code_of(reason: str) -> str:
    """Return the snake_case word of a reason's code: "InvalidJWTToken: …" gives invalid_jwt_token."""
    head = reason.partition(":")[0].strip()
    if not re.fullmatch(r"[A-Za-z_]{1,60}", head):
        return "refused"
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", head).lower()


@dataclass(frozen=True, slots=True)
class ChannelStateChanged:
    """The channel is in another state; `code` says why when the server said so."""

    state: ChannelState
    code: str = ""


@dataclass(frozen=True, slots=True)
class BroadcastReceived:
    """A member sent this."""

    event: str
    payload: dict[str, object] | bytes


@dataclass(frozen=True, slots=True)
class PushDone:
    """The server has taken the push with this ref."""

    ref: str


@dataclass(frozen=True, slots=True)
class PushFailed:
    """The push was refused, timed out or was lost with the connection."""

    ref: str
    code: str
    retryable: bool


ChannelEvent = ChannelStateChanged | BroadcastReceived | PushDone | PushFailed


@dataclass(slots=True)
class Effects:
    """What one call brought about: frames to send in this order, events for the owner."""

    frames: list[PhoenixFrame] = field(default_factory=list)
    events: list[ChannelEvent] = field(default_factory=list)


class Refs:
    """The message numbers of one socket, shared by its channels."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> str:
        """Return a number never used before on this socket."""
        self._last += 1
        return str(self._last)


class Channel:
    """The state machine of one topic."""

    def __init__(
        self,
        topic: str,
        token: Secret,
        refs: Refs,
        *,
        private: bool = True,
        push_timeout_s: float = PUSH_TIMEOUT_S,
        backoff: Backoff | None = None,
    ) -> None:
        self.topic = TOPIC_PREFIX + topic
        self.state = ChannelState.WAITING
        self._token = token
        self._sent_token = token
        self._refs = refs
        self._private = private
        self._push_timeout_s = push_timeout_s
        self._backoff = backoff or Backoff()
        self._is_up = False
        self._join_ref: str | None = None
        self._join_deadline: float | None = None
        self._pending: dict[str, float] = {}  # ref to deadline
        self._last_error = ""
        self.ignored = 0
        """Frames of an earlier join, or answers to nothing: counted and dropped."""

    @property
    def deadline(self) -> float | None:
        """The moment `tick` wants to be called, seconds, monotonic."""
        rejoin = self._backoff.deadline if self._is_up and self.state is ChannelState.WAITING else None
        times = [t for t in (self._join_deadline, rejoin, *self._pending.values()) if t is not None]
        return min(times, default=None)

    def connected(self, now: float) -> Effects:
        """Note that the socket is up: a channel that wants to be joined joins at once."""
        effects = Effects()
        self._is_up = True
        if self.state is ChannelState.WAITING:
            self._join(effects, now)
        return effects

    def disconnected(self, now: float) -> Effects:
        """Note that the socket is gone, and all that was under way with it."""
        effects = Effects()
        self._is_up = False
        self._drop_pending(effects, "disconnected")
        if self.state in (ChannelState.JOINING, ChannelState.JOINED):
            self._become(effects, ChannelState.WAITING, "disconnected")
        return effects

    def set_token(self, token: Secret, now: float) -> Effects:
        """Use this token from now on; a channel that was closed or refused joins with it."""
        effects = Effects()
        self._token = token
        if self.state is ChannelState.JOINED:
            if token != self._sent_token:
                self._send_token(effects)
        elif self.state in (ChannelState.TOKEN_WANTED, ChannelState.REFUSED):
            if self._is_up:
                self._join(effects, now)
            else:
                self._become(effects, ChannelState.WAITING)
        return effects

    def push(self, event: str, payload: dict[str, object], now: float) -> tuple[str, Effects]:
        """Send an acknowledged broadcast; only while JOINED. Returns its ref."""
        effects = Effects()
        ref = self._refs.next()
        if self.state is not ChannelState.JOINED:
            effects.events.append(PushFailed(ref, "not_joined", retryable=True))
        elif len(self._pending) >= MAX_PENDING:
            effects.events.append(PushFailed(ref, "too_many_pushes", retryable=True))
        else:
            self._pending[ref] = now + self._push_timeout_s
            body: dict[str, object] = {"type": "broadcast", "event": event, "payload": payload}
            effects.frames.append(PhoenixFrame(self._join_ref, ref, self.topic, "broadcast", body))
        return ref, effects

    def forget(self, ref: str) -> None:
        """Stop waiting for a push: nobody wants its answer any more."""
        self._pending.pop(ref, None)

    def leave(self) -> Effects:
        """Leave for good; a second time does nothing."""
        effects = Effects()
        if self.state is ChannelState.CLOSED:
            return effects
        if self._is_up and self.state in (ChannelState.JOINING, ChannelState.JOINED):
            effects.frames.append(
                PhoenixFrame(self._join_ref, self._refs.next(), self.topic, "phx_leave", {})
            )
        self._drop_pending(effects, "left")
        self._become(effects, ChannelState.CLOSED)
        return effects

    def tick(self, now: float) -> Effects:
        """Do what the deadline was for."""
        effects = Effects()
        for ref in [ref for ref, deadline in self._pending.items() if deadline <= now]:
            del self._pending[ref]
            # A write the policy forbids gets no answer at all: silence may also mean that.
            effects.events.append(PushFailed(ref, "push_timeout", retryable=True))
        if self._join_deadline is not None and self._join_deadline <= now:
            # The server may have joined us after all; without the leave it would count us twice.
            effects.frames.append(
                PhoenixFrame(self._join_ref, self._refs.next(), self.topic, "phx_leave", {})
            )
            self._retry(effects, now, "join_timeout")
        elif self.state is ChannelState.WAITING and self._is_up:
            due = self._backoff.deadline
            if due is not None and due <= now:
                self._join(effects, now)
        return effects

    def receive(self, frame: PhoenixFrame, now: float) -> Effects:
        """Handle a frame of this topic."""
        effects = Effects()
        if frame.join_ref is not None and frame.join_ref != self._join_ref:
            self.ignored += 1
            return effects
        broadcast = broadcast_of(frame)
        if broadcast is not None:
            if self.state is ChannelState.JOINED:
                effects.events.append(BroadcastReceived(broadcast.event, broadcast.payload))
            else:
                self.ignored += 1
        elif isinstance(frame.payload, dict):
            self._control(effects, frame, frame.payload, now)
        return effects

    def _control(self, effects: Effects, frame: PhoenixFrame, payload: dict[str, object], now: float) -> None:
        is_live = self.state in (ChannelState.JOINING, ChannelState.JOINED)
        match frame.event:
            case "phx_reply":
                self._reply(effects, frame.ref, payload, now)
            case "phx_error" if is_live:
                self._drop_pending(effects, "channel_error")
                self._retry(effects, now, "channel_error")
            case "phx_close" if is_live:
                self._closed(effects, now)
            case "system" if is_live and payload.get("status") == "error":
                self._last_error = _text(payload.get("message"))
            case "system" | "presence_state" | "presence_diff" | "postgres_changes":
                pass  # a call channel uses none of these
            case _:
                self.ignored += 1

    def _reply(self, effects: Effects, ref: str | None, payload: dict[str, object], now: float) -> None:
        is_ok = payload.get("status") == "ok"
        reason = _reason(payload.get("response"))
        if ref is not None and ref == self._join_ref and self.state is ChannelState.JOINING:
            if is_ok:
                self._backoff.succeeded(now)
                self._become(effects, ChannelState.JOINED)
                if self._token != self._sent_token:  # a fresh one came while the join was under way
                    self._send_token(effects)
            else:
                self._refused(effects, reason, now)
        elif ref is not None and self._pending.pop(ref, None) is not None:
            if is_ok:
                effects.events.append(PushDone(ref))
            elif reason == "unmatched topic":
                # The server lost the channel without a word (it was restarted behind a proxy).
                effects.events.append(PushFailed(ref, "unmatched_topic", retryable=True))
                self._drop_pending(effects, "unmatched_topic")
                self._retry(effects, now, "unmatched_topic")
            else:
                effects.events.append(PushFailed(ref, code_of(reason), retryable=False))
        else:
            self.ignored += 1

    def _closed(self, effects: Effects, now: float) -> None:
        reason, self._last_error = self._last_error, ""
        self._drop_pending(effects, "channel_closed")
        if reason:
            self._refused(effects, reason, now)
        else:
            self._become(effects, ChannelState.TOKEN_WANTED, "channel_closed")

    def _refused(self, effects: Effects, reason: str, now: float) -> None:
        match classify(reason):
            case Verdict.FATAL:
                self._become(effects, ChannelState.REFUSED, code_of(reason))
            case Verdict.FRESH_TOKEN:
                self._become(effects, ChannelState.TOKEN_WANTED, code_of(reason))
            case Verdict.RETRY:
                self._retry(effects, now, code_of(reason))
            case Verdict.RETRY_LATER:
                self._retry(effects, now, code_of(reason), hard=True)

    def _retry(self, effects: Effects, now: float, code: str, *, hard: bool = False) -> None:
        self._backoff.failed(now, hard=hard)
        self._become(effects, ChannelState.WAITING, code)

    def _join(self, effects: Effects, now: float) -> None:
        ref = self._refs.next()
        self._join_ref = ref
        self._join_deadline = now + self._push_timeout_s
        self._sent_token = self._token
        self._last_error = ""
        self._become(effects, ChannelState.JOINING)
        config: dict[str, object] = {
            "broadcast": {"ack": True, "self": False},
            "presence": {"key": "", "enabled": False},
            "postgres_changes": [],
            "private": self._private,
        }
        payload: dict[str, object] = {"config": config, "access_token": self._token.reveal()}
        effects.frames.append(PhoenixFrame(ref, ref, self.topic, "phx_join", payload))

    def _send_token(self, effects: Effects) -> None:
        self._sent_token = self._token
        payload: dict[str, object] = {"access_token": self._token.reveal()}
        effects.frames.append(
            PhoenixFrame(self._join_ref, self._refs.next(), self.topic, "access_token", payload)
        )

    def _drop_pending(self, effects: Effects, code: str) -> None:
        effects.events += [PushFailed(ref, code, retryable=True) for ref in self._pending]
        self._pending.clear()

    def _become(self, effects: Effects, state: ChannelState, code: str = "") -> None:
        if state is not ChannelState.JOINING:
            self._join_deadline = None
        if state is self.state:
            return
        self.state = state
        effects.events.append(ChannelStateChanged(state, code))


def _reason(response: object) -> str:
    # Hosted Realtime has answered with a bare text and with {"reason": …} and {"error": …}.
    if isinstance(response, dict):
        return _text(response.get("reason") or response.get("error"))
    return _text(response)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
