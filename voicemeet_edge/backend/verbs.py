"""The seven verbs of wire contract version 1 as values; the one rule: no dict crosses this border unread.

Requests and replies are frozen dataclasses with `parse` and `serialize`, used by the device's client
and by the hub alike, so the two cannot drift apart. Everything out of shape or size is a MessageError.
Tokens travel in the `Authorization` header and are therefore in the replies only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from typing import Literal, TypedDict

from voicemeet_edge.backend.fields import (
    read_count,
    read_matching,
    read_object,
    read_seconds,
    read_text,
    read_token,
)
from voicemeet_edge.backend.ice_server import IceServer, read_ice_servers
from voicemeet_edge.errors import MessageError
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

VERB_PATH = "/functions/v1/voicemeet"  # below the base URL; where an Edge Function of that name lives
REALTIME_PATH = "/realtime/v1/websocket"  # below the base URL, as Supabase's own clients expect it
MAX_REQUEST_BYTES = 16 * 1024  # bytes; an honest body is below 2 kB, mostly below 300
MAX_REPLY_BYTES = 64 * 1024  # bytes; an honest reply is below 4 kB, with 24 desks or 100 doors below 60
MAX_PASS_CHARS = 128  # characters of a pass as somebody may send it; in its one form it has 26
MAX_MESSAGE = 300  # characters of an error's sentence
MAX_LEGS = 24  # desks that one caller rings at once; each is a call with some five messages, on one socket
MAX_LABEL_CHARS = 512  # characters of what a door is called in the list; sealed it has 232
MAX_DOORS = 100  # doors in the list that a desk gets: it must fit into one reply

TICKET_PATTERN = re.compile(r"[A-Za-z0-9_-]{22,64}\Z")  # 128 random bits in base64url are 22 characters
POOL_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\Z")
CALL_ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{22,64}\Z")
WORD_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
DOOR_PATTERN = re.compile(r"[0-9a-f]{32}\Z")
RECEIPT_PATTERN = re.compile(r"[A-Za-z0-9-]{4,64}\Z")
_PROOF_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}\Z")  # 32 bytes

Slot = Literal["a", "b"]

SELF_TEST_POOL = "self-test-"
"""How the pools begin in which a device meets itself (docs/contract.md); 20 random hex digits follow."""
_SELF_TEST_PATTERN = re.compile(SELF_TEST_POOL + r"[0-9a-f]{20}\Z")


def is_self_test(pool: str) -> bool:
    """Say whether a device meets itself in this pool; a pool that only begins so is one like any other."""
    return _SELF_TEST_PATTERN.match(pool) is not None


class Verb(StrEnum):
    """What can be asked; also the last part of the path."""

    SESSION = "session"
    MATCH = "match"
    DOORS = "doors"
    RENEW = "renew"
    LEAVE = "leave"
    REPORT = "report"
    ENDED = "ended"


class Role(StrEnum):
    """How a party stands in a pool: a caller meets an answerer, `either` meets `either`."""

    CALLER = "caller"
    ANSWERER = "answerer"
    EITHER = "either"


class DeskState(StrEnum):
    """Whether an answerer takes a call just now; who does not still counts as on duty."""

    FREE = "free"
    BUSY = "busy"  # it rings, talks, or calls a door
    AWAY = "away"  # do not disturb, or out of its hours


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """Give me a device token, enrolled with this pass if there is one."""

    shown_pass: Secret | None = None

    @classmethod
    def parse(cls, body: object) -> SessionRequest:
        """Read a request body; MessageError when out of shape."""
        fields = read_object(body)
        if fields.get("pass") is None:
            return cls()
        return cls(Secret(read_text(fields, "pass", MAX_PASS_CHARS)))

    def serialize(self) -> dict[str, object]:
        """Return the request body."""
        return {} if self.shown_pass is None else {"pass": self.shown_pass.reveal()}


@dataclass(frozen=True, slots=True)
class MatchRequest:
    """Find me a partner, or say how the search of this ticket stands (idempotent, re-polled)."""

    ticket: str
    pool: str
    role: Role
    proof: str = ""
    ring: bool = False
    """Caller: ring all free desks, not one."""
    again: tuple[str, ...] = ()
    """Caller that rings: calls that ended as busy, whose desks may ring again."""
    state: DeskState = DeskState.FREE
    """Answerer."""
    label: str = ""
    """Caller: not a search; stand by as a door of this label."""
    door: str = ""
    """Answerer: call this door."""

    @classmethod
    def parse(cls, body: object) -> MatchRequest:
        """Read a request body; MessageError when out of shape."""
        fields = read_object(body)
        role = read_text(fields, "role", 16)
        if role not in _ROLES:
            raise MessageError("role must be caller, answerer or either")
        return cls(
            read_matching(fields, "ticket", TICKET_PATTERN),
            read_matching(fields, "pool", POOL_PATTERN),
            _ROLES[role],
            read_matching(fields, "proof", _PROOF_PATTERN) if "proof" in fields else "",
            **_ringing(fields, _ROLES[role]),
        )

    def serialize(self) -> dict[str, object]:
        """Return the request body."""
        body: dict[str, object] = {"ticket": self.ticket, "pool": self.pool, "role": self.role.value}
        body |= {"proof": self.proof} if self.proof else {}
        body |= {"ring": True} if self.ring else {}
        body |= {"again": list(self.again)} if self.again else {}
        body |= {"state": self.state.value} if self.state is not DeskState.FREE else {}
        body |= {"stand_by": True, "label": self.label} if self.label else {}
        return body | ({"door": self.door} if self.door else {})


class _Ringing(TypedDict, total=False):
    ring: bool
    again: tuple[str, ...]
    state: DeskState
    label: str
    door: str


def _ringing(fields: Mapping[str, object], role: Role) -> _Ringing:
    """Read what a `match` says of ringing; what is not for this role is refused, not ignored."""
    found: _Ringing = {}
    if fields.get("ring") is True:
        found["ring"] = True
    if "again" in fields:
        again = fields["again"]
        if not isinstance(again, list) or len(again) > MAX_LEGS:
            raise MessageError(f"again must be a list of at most {MAX_LEGS} call ids")
        found["again"] = tuple(read_matching({"again": one}, "again", CALL_ID_PATTERN) for one in again)
    if "state" in fields:
        state = read_text(fields, "state", 16)
        if state not in _STATES:
            raise MessageError("state must be free, busy or away")
        found["state"] = _STATES[state]
    if fields.get("stand_by") is True:
        found["label"] = read_text(fields, "label", MAX_LABEL_CHARS)
    if "door" in fields:
        found["door"] = read_matching(fields, "door", DOOR_PATTERN)
    callers = bool(found.get("ring") or found.get("again") or found.get("label"))
    answerers = "door" in found or found.get("state", DeskState.FREE) is not DeskState.FREE
    if (callers and role is not Role.CALLER) or (answerers and role is not Role.ANSWERER):
        raise MessageError("this is not for that role")
    if found.get("ring") and found.get("label"):
        raise MessageError("a ticket rings or stands by, not both")
    return found


@dataclass(frozen=True, slots=True)
class DoorsRequest:
    """List the doors of this pool."""

    pool: str

    @classmethod
    def parse(cls, body: object) -> DoorsRequest:
        """Read a request body; MessageError when out of shape."""
        return cls(read_matching(read_object(body), "pool", POOL_PATTERN))

    def serialize(self) -> dict[str, object]:
        """Return the request body."""
        return {"pool": self.pool}


@dataclass(frozen=True, slots=True)
class LeaveRequest:
    """Forget my ticket; idempotent."""

    ticket: str

    @classmethod
    def parse(cls, body: object) -> LeaveRequest:
        """Read a request body; MessageError when out of shape."""
        return cls(read_matching(read_object(body), "ticket", TICKET_PATTERN))

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
        return cls(read_matching(read_object(body), "reason", WORD_PATTERN))

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
        return cls(int(read_seconds(read_object(body), "seconds")))

    def serialize(self) -> dict[str, object]:
        """Return the request body."""
        return {"seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class SessionReply:
    """A fresh device token and its life in seconds."""

    device_token: Secret
    expires_in_s: float

    @classmethod
    def parse(cls, body: object) -> SessionReply:
        """Read a reply body; MessageError when out of shape."""
        fields = read_object(body)
        return cls(read_token(fields, "device_token"), read_seconds(fields, "expires_in_s"))

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {"device_token": self.device_token.reveal(), "expires_in_s": self.expires_in_s}


@dataclass(frozen=True, slots=True)
class WaitingReply:
    """Nobody yet: ask again after `poll_after_s` (plus jitter), or when `wait:<ticket>` says so."""

    poll_after_s: float
    wait_token: Secret
    separated: bool = False  # meets nobody but others who were reported
    callers: int | None = None  # for answerers of closed pools: how many wait whom they have not rung for
    doors: int | None = None  # the same: how many doors are on line

    @classmethod
    def parse(cls, body: object) -> WaitingReply:
        """Read a reply body; MessageError when out of shape."""
        fields = read_object(body)
        return cls(
            read_seconds(fields, "poll_after_s"),
            read_token(fields, "wait_token"),
            fields.get("separated") is True,
            read_count(fields, "callers") if "callers" in fields else None,
            read_count(fields, "doors") if "doors" in fields else None,
        )

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        body: dict[str, object] = {
            "status": "waiting",
            "poll_after_s": self.poll_after_s,
            "wait_token": self.wait_token.reveal(),
        }
        body |= {"separated": True} if self.separated else {}
        body |= {"callers": self.callers} if self.callers is not None else {}
        return body | ({"doors": self.doors} if self.doors is not None else {})


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
        fields = read_object(body)
        role = read_text(fields, "peer_role", 16)
        if role not in _ROLES:
            raise MessageError("peer_role must be caller, answerer or either")
        return cls(
            call_id=read_matching(fields, "call_id", CALL_ID_PATTERN),
            slot=_slot(fields, "slot"),
            offerer=_slot(fields, "offerer"),
            peer_role=_ROLES[role],
            token=read_token(fields, "token"),
            token_ttl_s=read_seconds(fields, "token_ttl_s"),
            ice_servers=read_ice_servers(fields),
            ttl_s=read_seconds(fields, "ttl_s", 172_800.0),
            max_call_s=read_seconds(fields, "max_call_s"),
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


@dataclass(frozen=True, slots=True)
class Desks:
    """Desks on duty in a closed pool that a caller has not rung."""

    busy: int = 0
    away: int = 0


@dataclass(frozen=True, slots=True)
class RingingReply:
    """All desks found so far by one ticket, a call each; ask again for more."""

    poll_after_s: float
    wait_token: Secret
    calls: tuple[MatchedReply, ...] = ()
    place: int | None = None
    """In closed pools: 1 is next in the line."""
    desks: Desks | None = None
    """In closed pools."""

    @classmethod
    def parse(cls, body: object) -> RingingReply:
        """Read a reply body; MessageError when out of shape."""
        fields = read_object(body)
        calls = fields.get("calls")
        if not isinstance(calls, list) or len(calls) > MAX_LEGS:
            raise MessageError(f"calls must be a list of at most {MAX_LEGS}")
        desks = read_object(fields["desks"]) if "desks" in fields else None
        return cls(
            read_seconds(fields, "poll_after_s"),
            read_token(fields, "wait_token"),
            tuple(MatchedReply.parse(call) for call in calls),
            read_count(fields, "place") if "place" in fields else None,
            None if desks is None else Desks(read_count(desks, "busy"), read_count(desks, "away")),
        )

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        body: dict[str, object] = {
            "status": "ringing",
            "poll_after_s": self.poll_after_s,
            "wait_token": self.wait_token.reveal(),
            "calls": [call.serialize() for call in self.calls],
        }
        body |= {"place": self.place} if self.place is not None else {}
        return body | ({"desks": asdict(self.desks)} if self.desks is not None else {})


MatchReply = WaitingReply | MatchedReply


def parse_match_reply(body: object) -> MatchReply:
    """Read the answer to `match` of one who does not ring, whichever of the two it is."""
    status = read_object(body).get("status")
    if status == "waiting":
        return WaitingReply.parse(body)
    if status == "matched":
        return MatchedReply.parse(body)
    raise MessageError("status must be waiting or matched")


def parse_ringing_reply(body: object) -> RingingReply:
    """Read the answer to `match` of one who rings."""
    if read_object(body).get("status") != "ringing":
        raise MessageError("status must be ringing")
    return RingingReply.parse(body)


@dataclass(frozen=True, slots=True)
class ListedDoor:
    """One door as the list names it."""

    door: str
    label: str


@dataclass(frozen=True, slots=True)
class DoorsReply:
    """The doors that are on line, and how many in all."""

    count: int
    doors: tuple[ListedDoor, ...] = ()

    @classmethod
    def parse(cls, body: object) -> DoorsReply:
        """Read a reply body; MessageError when out of shape."""
        fields = read_object(body)
        doors = fields.get("doors")
        if not isinstance(doors, list) or len(doors) > MAX_DOORS:
            raise MessageError(f"doors must be a list of at most {MAX_DOORS}")
        rows = [read_object(door) for door in doors]
        listed = [
            ListedDoor(read_matching(row, "door", DOOR_PATTERN), read_text(row, "label", MAX_LABEL_CHARS))
            for row in rows
        ]
        return cls(read_count(fields, "count"), tuple(listed))

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {"count": self.count, "doors": [asdict(door) for door in self.doors]}


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
        fields = read_object(body)
        return cls(
            read_token(fields, "token"),
            read_seconds(fields, "token_ttl_s"),
            read_ice_servers(fields),
            read_seconds(fields, "ttl_s", 172_800.0),
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
        return cls(read_matching(read_object(body), "receipt", RECEIPT_PATTERN))

    def serialize(self) -> dict[str, object]:
        """Return the reply body."""
        return {"receipt": self.receipt}


@dataclass(frozen=True, slots=True)
class OkReply:
    """Done; the answer to `leave` and `ended`."""

    @classmethod
    def parse(cls, body: object) -> OkReply:
        """Read a reply body; MessageError when out of shape."""
        if read_object(body).get("ok") is not True:
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
        fields = read_object(read_object(body).get("error"))
        message = fields.get("message")
        retry = fields.get("retry_after_s")
        return cls(
            read_matching(fields, "code", WORD_PATTERN),
            message[:MAX_MESSAGE] if isinstance(message, str) else "",
            None if retry is None else read_seconds(fields, "retry_after_s"),
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


_ROLES = {role.value: role for role in Role}
_STATES = {state.value: state for state in DeskState}


def _slot(fields: Mapping[str, object], name: str) -> Slot:
    value = fields.get(name)
    if value == "a":
        return "a"
    if value == "b":
        return "b"
    raise MessageError(f"{name} must be a or b")
