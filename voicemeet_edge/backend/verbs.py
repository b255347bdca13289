"""The six verbs of wire contract version 1 as values; the one rule: no dict crosses this border unread.

Requests and replies are frozen dataclasses with `parse` and `serialize`, used by the device's client
and by the hub alike, so the two cannot drift apart. Everything out of shape or size is a MessageError.
Tokens travel in the `Authorization` header and are therefore in the replies only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, cast

from ..errors import MessageError
from ..secret import Secret

VERB_PATH = "/functions/v1/voicemeet"  # below the base URL; where an Edge Function of that name lives
REALTIME_PATH = "/realtime/v1/websocket"  # below the base URL, as Supabase's own clients expect it
MAX_REQUEST_BYTES = 16 * 1024  # bytes; the largest honest body is below 300
MAX_REPLY_BYTES = 64 * 1024  # bytes; the largest honest reply (eight ICE servers) is below 4 kB
MAX_TOKEN_LENGTH = 4096  # characters; a JWT of ours has about 250, a hosted one may carry more claims
MAX_ICE_SERVERS = 8  # Cloudflare gives 2, the hub 2
MAX_ICE_URLS = 12  # per server; Cloudflare gives 6
MAX_ICE_TEXT = 512  # characters of one URL, user name or credential
MAX_SECONDS = 86_400.0  # every time in the contract is at most a day
MAX_MESSAGE = 300  # characters of an error's sentence

TICKET_PATTERN = re.compile(r"[A-Za-z0-9_-]{22,64}\Z")  # 128 random bits in base64url are 22 characters
POOL_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")
CALL_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{22,64}\Z")
WORD_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
RECEIPT_PATTERN = re.compile(r"[A-Za-z0-9-]{4,64}\Z")
_TOKEN_PATTERN = re.compile(rf"[\x21-\x7e]{{1,{MAX_TOKEN_LENGTH}}}\Z")

Slot = Literal["a", "b"]


class Verb(StrEnum):
    """What can be asked; also the last part of the path."""

    SESSION = "session"
    MATCH = "match"
    RENEW = "renew"
    LEAVE = "leave"
    REPORT = "report"
    ENDED = "ended"


class Role(StrEnum):
    """How a party stands in a pool: a caller meets an answerer, `either` meets `either`."""

    CALLER = "caller"
    ANSWERER = "answerer"
    EITHER = "either"


@dataclass(frozen=True, slots=True)
class MatchRequest:
    """Find me a partner, or say how the search of this ticket stands (idempotent, re-polled)."""

    ticket: str
    pool: str
    role: Role

    @classmethod
    def parse(cls, body: object) -> MatchRequest:
        """Read a request body; MessageError when out of shape."""
        fields = _object(body)
        role = _text(fields, "role", 16)
        if role not in _ROLES:
            raise MessageError("role must be caller, answerer or either")
        return cls(
            _matching(fields, "ticket", TICKET_PATTERN), _matching(fields, "pool", POOL_PATTERN), _ROLES[role]
        )

    def serialize(self) -> dict[str, object]:
        """Return the request body."""
        return {"ticket": self.ticket, "pool": self.pool, "role": self.role.value}


@dataclass(frozen=True, slots=True)
class LeaveRequest:
    """Forget my ticket; idempotent."""

    ticket: str

    @classmethod
    def parse(cls, body: object) -> LeaveRequest:
        """Read a request body; MessageError when out of shape."""
        return cls(_matching(_object(body), "ticket", TICKET_PATTERN))

    def serialize(self) -> dict[str, object]:
        """Return the request body."""
        return {"ticket": self.ticket}


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """File a report about the other party of this call; `reason` is a snake_case word."""

    reason: str

    @classmethod
    def parse(cls, body: object) -> ReportRequest:
        """Read a request body; MessageError when out of shape."""
        return cls(_matching(_object(body), "reason", WORD_PATTERN))

    def serialize(self) -> dict[str, object]:
        """Return the request body."""
        return {"reason": self.reason}


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """Say that the call is over and how many seconds were talked."""

    seconds: int

    @classmethod
    def parse(cls, body: object) -> EndedRequest:
        """Read a request body; MessageError when out of shape."""
        return cls(int(_seconds(_object(body), "seconds")))

    def serialize(self) -> dict[str, object]:
        """Return the request body."""
        return {"seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class IceServer:
    """One STUN or TURN server; `username` and `credential` are None for STUN."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: Secret | None = None

    @classmethod
    def parse(cls, body: object) -> IceServer:
        """Read one entry of `ice_servers`; `urls` may be one string, as the W3C type allows."""
        fields = _object(body)
        urls = fields.get("urls")
        listed = [urls] if isinstance(urls, str) else urls
        if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_ICE_URLS:
            raise MessageError("urls must be a short list")
        for url in listed:
            if not isinstance(url, str) or not 0 < len(url) <= MAX_ICE_TEXT:
                raise MessageError("urls must hold short texts")
        if "username" not in fields and "credential" not in fields:
            return cls(tuple(listed))
        credential = Secret(_text(fields, "credential", MAX_ICE_TEXT))
        return cls(tuple(listed), _text(fields, "username", MAX_ICE_TEXT), credential)

    def serialize(self) -> dict[str, object]:
        """Return the entry as the browser's RTCIceServer takes it."""
        out: dict[str, object] = {"urls": list(self.urls)}
        if self.username is not None and self.credential is not None:
            out["username"] = self.username
            out["credential"] = self.credential.reveal()
        return out


@dataclass(frozen=True, slots=True)
class SessionReply:
    """A fresh device token and its life in seconds."""

    device_token: Secret
    expires_in_s: float

    @classmethod
    def parse(cls, body: object) -> SessionReply:
        """Read a reply body; MessageError when out of shape."""
        fields = _object(body)
        return cls(_token(fields, "device_token"), _seconds(fields, "expires_in_s"))

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {"device_token": self.device_token.reveal(), "expires_in_s": self.expires_in_s}


@dataclass(frozen=True, slots=True)
class WaitingReply:
    """Nobody yet: ask again after `poll_after_s` (plus jitter), or when `wait:<ticket>` says so."""

    poll_after_s: float
    wait_token: Secret

    @classmethod
    def parse(cls, body: object) -> WaitingReply:
        """Read a reply body; MessageError when out of shape."""
        fields = _object(body)
        return cls(_seconds(fields, "poll_after_s"), _token(fields, "wait_token"))

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {
            "status": "waiting",
            "poll_after_s": self.poll_after_s,
            "wait_token": self.wait_token.reveal(),
        }


@dataclass(frozen=True, slots=True)
class MatchedReply:
    """A partner: everything one side needs to start the call."""

    call_id: str
    slot: Slot
    offerer: Slot
    peer_role: Role
    token: Secret
    token_ttl_s: float
    ice_servers: tuple[IceServer, ...]
    ttl_s: float
    max_call_s: float

    @classmethod
    def parse(cls, body: object) -> MatchedReply:
        """Read a reply body; MessageError when out of shape."""
        fields = _object(body)
        role = _text(fields, "peer_role", 16)
        if role not in _ROLES:
            raise MessageError("peer_role must be caller, answerer or either")
        return cls(
            call_id=_matching(fields, "call_id", CALL_ID_PATTERN),
            slot=_slot(fields, "slot"),
            offerer=_slot(fields, "offerer"),
            peer_role=_ROLES[role],
            token=_token(fields, "token"),
            token_ttl_s=_seconds(fields, "token_ttl_s"),
            ice_servers=_ice_servers(fields),
            ttl_s=_seconds(fields, "ttl_s", 172_800.0),
            max_call_s=_seconds(fields, "max_call_s"),
        )

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {
            "status": "matched",
            "call_id": self.call_id,
            "slot": self.slot,
            "offerer": self.offerer,
            "peer_role": self.peer_role.value,
            "token": self.token.reveal(),
            "token_ttl_s": self.token_ttl_s,
            "ice_servers": [server.serialize() for server in self.ice_servers],
            "ttl_s": self.ttl_s,
            "max_call_s": self.max_call_s,
        }


MatchReply = WaitingReply | MatchedReply


def parse_match_reply(body: object) -> MatchReply:
    """Read the answer to `match`, whichever of the two it is."""
    status = _object(body).get("status")
    if status == "waiting":
        return WaitingReply.parse(body)
    if status == "matched":
        return MatchedReply.parse(body)
    raise MessageError("status must be waiting or matched")


@dataclass(frozen=True, slots=True)
class RenewReply:
    """A fresh call JWT and fresh TURN credentials for the running call."""

    token: Secret
    token_ttl_s: float
    ice_servers: tuple[IceServer, ...]
    ttl_s: float

    @classmethod
    def parse(cls, body: object) -> RenewReply:
        """Read a reply body; MessageError when out of shape."""
        fields = _object(body)
        return cls(
            _token(fields, "token"),
            _seconds(fields, "token_ttl_s"),
            _ice_servers(fields),
            _seconds(fields, "ttl_s", 172_800.0),
        )

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {
            "token": self.token.reveal(),
            "token_ttl_s": self.token_ttl_s,
            "ice_servers": [server.serialize() for server in self.ice_servers],
            "ttl_s": self.ttl_s,
        }


@dataclass(frozen=True, slots=True)
class ReportReply:
    """The receipt a person can quote."""

    receipt: str

    @classmethod
    def parse(cls, body: object) -> ReportReply:
        """Read a reply body; MessageError when out of shape."""
        return cls(_matching(_object(body), "receipt", RECEIPT_PATTERN))

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {"receipt": self.receipt}


@dataclass(frozen=True, slots=True)
class OkReply:
    """Done; the answer to `leave` and `ended`."""

    @classmethod
    def parse(cls, body: object) -> OkReply:
        """Read a reply body; MessageError when out of shape."""
        if _object(body).get("ok") is not True:
            raise MessageError("ok must be true")
        return cls()

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {"ok": True}


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What every verb answers with a status of 400 and above."""

    code: str
    message: str
    retry_after_s: float | None = None

    @classmethod
    def parse(cls, body: object) -> ErrorReply:
        """Read an error body; MessageError when out of shape (a proxy's own page, for example)."""
        fields = _object(_object(body).get("error"))
        message = fields.get("message")
        retry = fields.get("retry_after_s")
        return cls(
            _matching(fields, "code", WORD_PATTERN),
            message[:MAX_MESSAGE] if isinstance(message, str) else "",
            None if retry is None else _seconds(fields, "retry_after_s"),
        )

    def serialize(self) -> dict[str, object]:
        """Return the error body; `retry_after_s` is left out when waiting does not help."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.retry_after_s is not None:
            error["retry_after_s"] = self.retry_after_s
        return {"error": error}


def verb_path(verb: Verb) -> str:
    """Return the path of a verb below the base URL."""
    return f"{VERB_PATH}/{verb.value}"


def realtime_url(base: str) -> str:
    """Return the WebSocket URL that belongs to a base URL (`http` becomes `ws`, `https` `wss`)."""
    scheme, separator, rest = base.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise MessageError("the base URL must start with http:// or https://")
    return f"{'wss' if scheme == 'https' else 'ws'}://{rest.rstrip('/')}{REALTIME_PATH}"


_ROLES = {role.value: role for role in Role}


def _object(body: object) -> Mapping[str, object]:
    if not isinstance(body, dict):
        raise MessageError("must be a JSON object")
    return cast("Mapping[str, object]", body)


def _text(fields: Mapping[str, object], name: str, limit: int) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= limit:
        raise MessageError(f"{name} must be a text of 1 to {limit} characters")
    return value


def _matching(fields: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not pattern.match(value):
        raise MessageError(f"{name} is missing or out of shape")
    return value


def _token(fields: Mapping[str, object], name: str) -> Secret:
    return Secret(_matching(fields, name, _TOKEN_PATTERN))


def _slot(fields: Mapping[str, object], name: str) -> Slot:
    value = fields.get(name)
    if value == "a":
        return "a"
    if value == "b":
        return "b"
    raise MessageError(f"{name} must be a or b")


def _seconds(fields: Mapping[str, object], name: str, limit: float = MAX_SECONDS) -> float:
    value = fields.get(name)
    # bool is an int in Python and NaN compares false with everything: both must not pass.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= limit:
        raise MessageError(f"{name} must be a number of seconds from 0 to {limit:.0f}")
    return value


def _ice_servers(fields: Mapping[str, object]) -> tuple[IceServer, ...]:
    value = fields.get("ice_servers")
    if not isinstance(value, list) or len(value) > MAX_ICE_SERVERS:
        raise MessageError("ice_servers must be a short list")
    return tuple(IceServer.parse(entry) for entry in value)
