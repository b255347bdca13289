"""Topics as a pure thing: members, slots, echoes, presence, encodings shared between members."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.hub.realtime.authorizer import Claims
from voicemeet_edge.hub.realtime.topics import Membership, Outgoing, Topics, broadcast_frame
from voicemeet_edge.signaling.frames import MAX_FRAME_BYTES, Broadcast, Layout, PhoenixFrame, Version


class Member:
    """A sink that keeps what it gets."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.frames: list[PhoenixFrame] = []
        self.closed: list[str] = []

    def deliver(self, outgoing: Outgoing) -> bool:
        """Keep the frame."""
        self.frames.append(outgoing.frame)
        return True

    def close_channel(self, channel: Membership, message: str) -> None:
        """Keep the reason."""
        self.closed.append(message)
        self.topics.leave(channel)


def member(
    topics: Topics, topic: str = "realtime:room", slot: str | None = None, **options: bool
) -> tuple[Member, Membership]:
    sink = Member(topics)
    private = options.pop("private", False)
    channel = Membership(
        sink, topic, "1", private, Claims("anon", 0.0, "x", slot), "", 0.0, True, presence_key="k", **options
    )
    return sink, channel


def hello(topic: str = "realtime:room") -> Outgoing:
    return broadcast_frame(topic, Broadcast("hi", {}), is_binary=False)


def test_a_broadcast_reaches_all_but_its_sender_unless_it_wants_its_echo() -> None:
    topics = Topics(10)
    (a, one), (b, two), (c, three) = (member(topics, wants_echo=echo) for echo in (False, True, False))
    for channel in (one, two, three):
        topics.join(channel)
    assert topics.broadcast("realtime:room", False, hello(), one) == 2
    assert topics.broadcast("realtime:room", False, hello(), two) == 3
    assert topics.broadcast("realtime:room", True, hello()) == 0
    assert [len(sink.frames) for sink in (a, b, c)] == [1, 2, 2]
    for channel in (one, two, three):
        topics.leave(channel)
        topics.leave(channel)
    assert len(topics) == 0


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=20))
def test_a_call_never_has_two_members_of_one_slot(script: list[tuple[str, bool]]) -> None:
    topics = Topics(10)
    sinks: list[Member] = []
    for slot, leaves in script:
        sink, channel = member(topics, "realtime:call:x", slot, private=True)
        sinks.append(sink)
        topics.join(channel)
        if leaves:
            topics.leave(channel)
        slots = [other.claims.slot for other in topics.members("realtime:call:x", True)]
        assert len(slots) == len(set(slots)) <= 2
    open_now = len(topics.members("realtime:call:x", True))
    replaced = sum(len(sink.closed) for sink in sinks)
    assert open_now + replaced + sum(leaves for _, leaves in script) == len(script)


def test_presence_is_told_to_those_who_want_it() -> None:
    topics = Topics(1)
    (a, watcher), (b, tracker), (c, deaf) = (
        member(topics, has_presence=wants) for wants in (True, False, False)
    )
    for channel in (watcher, tracker, deaf):
        topics.join(channel)
    assert topics.track(tracker, {"mood": "shy"})
    assert not topics.track(deaf, {})  # the topic is full
    assert topics.track(tracker, {"mood": "shy"})  # the same again tells nobody
    topics.untrack(tracker)
    topics.untrack(tracker)
    assert [len(sink.frames) for sink in (a, b, c)] == [2, 2, 0]
    assert topics.presence_state(watcher) == {}


def test_two_presences_of_one_key_stand_side_by_side() -> None:
    topics = Topics(10)
    (_, one), (_, two) = member(topics), member(topics)
    topics.join(one)
    topics.join(two)
    topics.track(one, {"n": 1})
    topics.track(two, {"n": 2})
    state = topics.presence_state(one)["k"]
    assert isinstance(state, dict)
    assert [meta["n"] for meta in state["metas"]] == [1, 2]
    topics.leave(one)
    state = topics.presence_state(two)["k"]
    assert isinstance(state, dict)
    assert [meta["n"] for meta in state["metas"]] == [2]


def test_an_outgoing_frame_is_written_once_per_version() -> None:
    outgoing = hello()
    for version in Version:
        assert outgoing.encoded(version) is outgoing.encoded(version) is not None


def test_what_a_version_cannot_say_is_none() -> None:
    raw = Outgoing(PhoenixFrame(None, None, "t", "raw", b"\x00", Layout.BROADCAST))
    assert raw.encoded(Version.V1) is None
    assert raw.encoded(Version.V2) is not None
    huge = Outgoing(PhoenixFrame(None, None, "t", "broadcast", {"a": "x" * MAX_FRAME_BYTES}))
    assert huge.encoded(Version.V2) is None
