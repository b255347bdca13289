"""Who is on which topic, and what each member is told: broadcasts, presence, one member per slot.

Rule: no socket and no clock here; a member is a `Channel` whose `sink` takes frames. A private and
a public topic of the same name are two topics: who joins the public one hears nothing of the other.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import field
from typing import Protocol

from voicemeet_edge.backend.verbs import Slot
from voicemeet_edge.errors import FrameError
from voicemeet_edge.hub.realtime.authorizer import Claims
from voicemeet_edge.records import dataclass
from voicemeet_edge.signaling.channel import TOPIC_PREFIX
from voicemeet_edge.signaling.frames import (
    Broadcast,
    Layout,
    PhoenixFrame,
    Version,
    broadcast_of,
    broadcast_payload,
    encode,
)

CALL_PREFIX = "call:"  # topics that take one member per slot and nobody else
PHX_REF_BYTES = 8  # random bytes; names one presence among those of a topic


class Outgoing:
    """A frame on its way to many sockets, written once per protocol version."""

    __slots__ = ("_texts", "frame")

    def __init__(self, frame: PhoenixFrame) -> None:
        self.frame = frame
        self._texts: dict[Version, str | bytes | None] = {}

    def encoded(self, version: Version) -> str | bytes | None:
        """Return the WebSocket message, or None when this version cannot say it."""
        if version not in self._texts:
            try:
                self._texts[version] = self._encode(version)
            except FrameError:  # within a few bytes of the limit: it fitted one version, not this one
                self._texts[version] = None
        return self._texts[version]

    def _encode(self, version: Version) -> str | bytes | None:
        frame = self.frame
        if version is Version.V2:
            return encode(frame, version)
        if frame.layout is not Layout.TEXT:
            broadcast = broadcast_of(frame)
            if broadcast is None or isinstance(broadcast.payload, bytes):
                return None  # 1.0.0 has no binary frames: hosted does not deliver these either
            payload = broadcast_payload(broadcast)
            return encode(PhoenixFrame(None, None, frame.topic, "broadcast", payload), version)
        # The official serializer of 1.0.0 leaves join_ref out of everything it sends.
        return encode(PhoenixFrame(None, frame.ref, frame.topic, frame.event, frame.payload), version)


class CallWatch(Protocol):
    """Who is told what happens on the topics of calls; never what is said there."""

    def joined(self, call_id: str, slot: Slot) -> None:
        """A slot is on its call's topic."""

    def left(self, call_id: str, slot: Slot) -> None:
        """A slot is no longer on its call's topic."""

    def heard(self, call_id: str, slot: Slot, event: str) -> None:
        """A slot sent a message of this name."""


class Sink(Protocol):
    """Where a member's frames go."""

    def deliver(self, outgoing: Outgoing) -> bool:
        """Queue a frame; False when it cannot be delivered."""

    def close_channel(self, channel: Membership, message: str) -> None:
        """Tell the member why (a `system` error), close its channel and take it off the topic."""


@dataclass(slots=True, eq=False)
class Membership:
    """One join of one socket."""

    sink: Sink
    topic: str
    """With the `realtime:` prefix."""
    join_ref: str | None
    private: bool
    claims: Claims
    token: str
    expires_at: float
    """Seconds, monotonic."""
    may_write: bool
    wants_ack: bool = False
    wants_echo: bool = False
    has_presence: bool = False
    presence_key: str = ""

    @property
    def name(self) -> str:
        """The topic without the `realtime:` prefix."""
        return self.topic.removeprefix(TOPIC_PREFIX)


@dataclass(slots=True)
class _Topic:
    members: dict[Membership, None] = field(default_factory=dict)  # a set that keeps its order
    presences: dict[Membership, dict[str, object]] = field(default_factory=dict)


class Topics:
    """Every topic that has a member."""

    def __init__(self, max_presences: int) -> None:
        self._topics: dict[tuple[str, bool], _Topic] = {}
        self._max_presences = max_presences
        self.watch: CallWatch | None = None

    def __len__(self) -> int:
        return len(self._topics)

    def members(self, topic: str, private: bool) -> list[Membership]:
        """Return the members of a topic (with prefix), in the order of their joins."""
        found = self._topics.get((topic, private))
        return list(found.members) if found else []

    def join(self, channel: Membership) -> int:
        """Add a member; on a call's topic it takes the place of its slot's. Returns how many it replaced."""
        replaced = 0
        if channel.private and channel.name.startswith(CALL_PREFIX):
            for other in self.members(channel.topic, channel.private):
                if other.claims.slot == channel.claims.slot:
                    other.sink.close_channel(other, "ReplacedByNewerJoin: this slot joined again")
                    replaced += 1
        topic = self._topics.setdefault((channel.topic, channel.private), _Topic())
        topic.members[channel] = None
        call = _call_of(channel)
        if self.watch is not None and call is not None:
            self.watch.joined(*call)
        return replaced

    def leave(self, channel: Membership) -> None:
        """Remove a member and its presence; a second time does nothing."""
        key = (channel.topic, channel.private)
        topic = self._topics.get(key)
        if topic is None or channel not in topic.members:
            return
        del topic.members[channel]
        call = _call_of(channel)
        if self.watch is not None and call is not None:
            self.watch.left(*call)
        if not topic.members:
            del self._topics[key]
        elif (meta := topic.presences.pop(channel, None)) is not None:
            self._tell_diff(topic, channel, None, meta)

    def heard(self, channel: Membership, event: str) -> None:
        """Tell the watch that this member said something."""
        call = _call_of(channel)
        if self.watch is not None and call is not None:
            self.watch.heard(*call, event)

    def broadcast(
        self, topic: str, private: bool, outgoing: Outgoing, sender: Membership | None = None
    ) -> int:
        """Deliver to every member, to the sender only if it asked for its echo; returns how many took it."""
        found = self._topics.get((topic, private))
        if found is None:
            return 0
        return sum(
            member.sink.deliver(outgoing)
            for member in list(found.members)
            if member is not sender or member.wants_echo
        )

    def track(self, channel: Membership, payload: dict[str, object]) -> bool:
        """Set a member's presence; False when the topic has too many already."""
        topic = self._topics[channel.topic, channel.private]
        old = topic.presences.get(channel)
        if old is None and len(topic.presences) >= self._max_presences:
            return False
        if old is not None and _without_refs(old) == payload:
            return True
        meta: dict[str, object] = {**payload, "phx_ref": secrets.token_urlsafe(PHX_REF_BYTES)}
        if old is not None:
            meta["phx_ref_prev"] = old["phx_ref"]
        topic.presences[channel] = meta
        channel.has_presence = True
        self._tell_diff(topic, channel, meta, old)
        return True

    def untrack(self, channel: Membership) -> None:
        """Remove a member's presence."""
        topic = self._topics[channel.topic, channel.private]
        if (meta := topic.presences.pop(channel, None)) is not None:
            self._tell_diff(topic, channel, None, meta)

    def presence_state(self, channel: Membership) -> dict[str, object]:
        """Return all presences of the channel's topic by key, as `presence_state` wants them."""
        topic = self._topics[channel.topic, channel.private]
        return _by_key((member.presence_key, meta) for member, meta in topic.presences.items())

    def _tell_diff(
        self,
        topic: _Topic,
        channel: Membership,
        joined: dict[str, object] | None,
        left: dict[str, object] | None,
    ) -> None:
        key = channel.presence_key
        payload: dict[str, object] = {
            "joins": _by_key([(key, joined)] if joined else []),
            "leaves": _by_key([(key, left)] if left else []),
        }
        outgoing = Outgoing(PhoenixFrame(None, None, channel.topic, "presence_diff", payload))
        for member in list(topic.members):
            if member.has_presence:
                member.sink.deliver(outgoing)


def _call_of(channel: Membership) -> tuple[str, Slot] | None:
    claims = channel.claims
    if not channel.private or claims.call_id is None or claims.slot is None:
        return None
    return claims.call_id, "a" if claims.slot == "a" else "b"


def _by_key(metas: Iterable[tuple[str, dict[str, object]]]) -> dict[str, object]:
    state: dict[str, dict[str, list[dict[str, object]]]] = {}
    for key, meta in metas:
        state.setdefault(key, {"metas": []})["metas"].append(meta)
    return dict(state)


def _without_refs(meta: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in meta.items() if key not in ("phx_ref", "phx_ref_prev")}


def broadcast_frame(topic: str, broadcast: Broadcast, *, is_binary: bool) -> Outgoing:
    """Return a broadcast as the members of a topic (with prefix) get it."""
    if is_binary or isinstance(broadcast.payload, bytes):
        return Outgoing(
            PhoenixFrame(
                None, None, topic, broadcast.event, broadcast.payload, Layout.BROADCAST, broadcast.meta
            )
        )
    return Outgoing(PhoenixFrame(None, None, topic, "broadcast", broadcast_payload(broadcast)))
