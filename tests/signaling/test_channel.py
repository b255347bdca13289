"""The client channel, step by step, without a socket or a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import (
    MAX_PENDING,
    BroadcastReceived,
    Channel,
    ChannelState,
    ChannelStateChanged,
    Effects,
    PushDone,
    PushFailed,
    Refs,
    Verdict,
    classify,
    code_of,
)
from voicemeet_edge.signaling.frames import Layout, PhoenixFrame
from voicemeet_edge.signaling.reconnect import Backoff

TOPIC = "realtime:call:x"


def make() -> Channel:
    backoff = Backoff(base_s=2.0, cap_s=30.0, uniform=lambda low, high: high)
    return Channel("call:x", Secret("t1"), Refs(), backoff=backoff)


def joined(now: float = 0.0) -> Channel:
    channel = make()
    channel.connected(now)
    channel.receive(reply("1", "ok"), now)
    assert channel.state is ChannelState.JOINED
    return channel


def reply(ref: str, status: str, response: object = None, join_ref: str | None = "1") -> PhoenixFrame:
    payload: dict[str, object] = {"status": status, "response": {} if response is None else response}
    return PhoenixFrame(join_ref, ref, TOPIC, "phx_reply", payload)


def system(message: str) -> PhoenixFrame:
    payload: dict[str, object] = {
        "extension": "system",
        "status": "error",
        "message": message,
        "channel": "call:x",
    }
    return PhoenixFrame("1", None, TOPIC, "system", payload)


def close(join_ref: str = "1") -> PhoenixFrame:
    return PhoenixFrame(join_ref, join_ref, TOPIC, "phx_close", {})


def states(step: Effects) -> list[tuple[ChannelState, str]]:
    return [(event.state, event.code) for event in step.events if isinstance(event, ChannelStateChanged)]


def assert_one_frame(step: Effects, event: str) -> PhoenixFrame:
    assert [frame.event for frame in step.frames] == [event]
    return step.frames[0]


def test_join_says_what_the_server_wants_to_hear() -> None:
    channel = make()
    step = channel.connected(5.0)
    frame = assert_one_frame(step, "phx_join")
    assert (frame.join_ref, frame.ref, frame.topic) == ("1", "1", TOPIC)
    assert isinstance(frame.payload, dict)
    assert frame.payload["access_token"] == "t1"
    assert frame.payload["config"] == {
        "broadcast": {"ack": True, "self": False},
        "presence": {"key": "", "enabled": False},
        "postgres_changes": [],
        "private": True,
    }
    assert states(step) == [(ChannelState.JOINING, "")]
    assert channel.deadline == 15.0
    assert states(channel.receive(reply("1", "ok"), 6.0)) == [(ChannelState.JOINED, "")]
    assert channel.deadline is None


def test_a_join_nobody_answers_is_left_and_tried_again() -> None:
    channel = make()
    channel.connected(0.0)
    assert channel.tick(9.9) == Effects()
    step = channel.tick(10.0)
    assert assert_one_frame(step, "phx_leave").join_ref == "1"
    assert states(step) == [(ChannelState.WAITING, "join_timeout")]
    assert channel.deadline == 12.0
    assert assert_one_frame(channel.tick(12.0), "phx_join").ref == "3"
    late = channel.receive(reply("1", "ok"), 12.1)  # of the join that was given up
    assert late == Effects()
    assert channel.ignored == 1
    assert channel.state is ChannelState.JOINING


@pytest.mark.parametrize(
    ("reason", "state", "code"),
    [
        ("Unauthorized: You do not have permissions", ChannelState.REFUSED, "unauthorized"),
        ("PrivateOnly: x", ChannelState.REFUSED, "private_only"),
        ("InvalidJWTToken: Token has expired 3 seconds ago", ChannelState.TOKEN_WANTED, "invalid_jwt_token"),
        ("RealtimeRestarting: x", ChannelState.WAITING, "realtime_restarting"),
        ("ChannelRateLimitReached: x", ChannelState.WAITING, "channel_rate_limit_reached"),
        ("Unknown Error on Channel", ChannelState.WAITING, "refused"),
    ],
)
def test_a_refused_join_is_judged_by_its_code(reason: str, state: ChannelState, code: str) -> None:
    channel = make()
    channel.connected(0.0)
    step = channel.receive(reply("1", "error", {"reason": reason}), 1.0)
    assert states(step) == [(state, code)]
    assert (channel.deadline is None) == (state is not ChannelState.WAITING)


def test_a_rate_limit_waits_longer_than_a_hiccup() -> None:
    deadlines = []
    for reason in ("RealtimeRestarting: x", "ClientJoinRateLimitReached: x"):
        channel = make()
        channel.connected(0.0)
        channel.receive(reply("1", "error", {"reason": reason}), 0.0)
        deadlines.append(channel.deadline)
    assert deadlines == [2.0, 30.0]


@pytest.mark.parametrize(
    ("message", "state"),
    [
        ("Token has expired 0 seconds ago", ChannelState.TOKEN_WANTED),
        ("Server requested disconnect", ChannelState.TOKEN_WANTED),
        ("Too many messages per second", ChannelState.WAITING),
        ("You do not have permissions to read", ChannelState.REFUSED),
        ("ReplacedByNewerJoin: this slot joined again", ChannelState.REFUSED),
    ],
)
def test_a_close_is_judged_by_the_system_error_before_it(message: str, state: ChannelState) -> None:
    channel = joined()
    assert channel.receive(system(message), 1.0) == Effects()
    assert channel.receive(close(), 1.0).events[-1] == ChannelStateChanged(state, code_of(message))


def test_a_close_without_a_word_asks_the_owner() -> None:
    channel = joined()
    assert states(channel.receive(close(), 1.0)) == [(ChannelState.TOKEN_WANTED, "channel_closed")]
    step = channel.set_token(Secret("t2"), 2.0)
    frame = assert_one_frame(step, "phx_join")
    assert isinstance(frame.payload, dict)
    assert frame.payload["access_token"] == "t2"


def test_a_stale_close_is_ignored() -> None:
    channel = joined()
    assert channel.receive(close("0"), 1.0) == Effects()
    assert channel.state is ChannelState.JOINED
    assert channel.ignored == 1


def test_a_crashed_channel_is_joined_again() -> None:
    channel = joined()
    step = channel.receive(PhoenixFrame("1", "1", TOPIC, "phx_error", {}), 10.0)
    assert states(step) == [(ChannelState.WAITING, "channel_error")]
    assert channel.deadline == 12.0
    assert_one_frame(channel.tick(12.0), "phx_join")


def test_pushes_end_by_reply_error_timeout_or_loss() -> None:
    channel = joined()
    refs = [channel.push("offer", {"n": n}, 0.0)[0] for n in range(4)]
    assert channel.deadline == 10.0
    assert channel.receive(reply(refs[0], "ok"), 1.0).events == [PushDone(refs[0])]
    error = channel.receive(reply(refs[1], "error", {"error": "payload_size_exceeded"}), 1.0)
    assert error.events == [PushFailed(refs[1], "payload_size_exceeded", False)]
    assert channel.receive(reply(refs[0], "ok"), 1.0).events == []  # answered twice: ignored
    channel.forget(refs[2])
    assert channel.tick(10.0).events == [PushFailed(refs[3], "push_timeout", True)]
    ref, _ = channel.push("bye", {}, 11.0)
    assert channel.disconnected(12.0).events == [
        PushFailed(ref, "disconnected", True),
        ChannelStateChanged(ChannelState.WAITING, "disconnected"),
    ]
    assert channel.deadline is None


def test_a_push_says_event_and_payload() -> None:
    channel = joined()
    ref, step = channel.push("offer", {"sdp": "v=0"}, 0.0)
    frame = assert_one_frame(step, "broadcast")
    assert (frame.join_ref, frame.ref) == ("1", ref)
    assert frame.payload == {"type": "broadcast", "event": "offer", "payload": {"sdp": "v=0"}}


def test_pushes_are_refused_when_not_joined_or_too_many() -> None:
    ref, step = make().push("offer", {}, 0.0)
    assert step.events == [PushFailed(ref, "not_joined", True)]
    channel = joined()
    for _ in range(MAX_PENDING):
        channel.push("offer", {}, 0.0)
    ref, step = channel.push("offer", {}, 0.0)
    assert step.frames == []
    assert step.events == [PushFailed(ref, "too_many_pushes", True)]


def test_a_channel_the_server_forgot_is_joined_again() -> None:
    channel = joined()
    ref, _ = channel.push("offer", {}, 0.0)
    step = channel.receive(reply(ref, "error", {"reason": "unmatched topic"}), 1.0)
    assert step.events == [
        PushFailed(ref, "unmatched_topic", True),
        ChannelStateChanged(ChannelState.WAITING, "unmatched_topic"),
    ]


def test_broadcasts_of_both_framings_arrive_only_while_joined() -> None:
    text = PhoenixFrame(
        None, None, TOPIC, "broadcast", {"type": "broadcast", "event": "offer", "payload": {"n": 1}}
    )
    binary = PhoenixFrame(None, None, TOPIC, "offer", {"n": 1}, Layout.BROADCAST)
    channel = make()
    channel.connected(0.0)
    assert channel.receive(text, 0.0).events == []
    channel.receive(reply("1", "ok"), 0.0)
    for frame in (text, binary):
        assert channel.receive(frame, 0.0).events == [BroadcastReceived("offer", {"n": 1})]


def test_a_token_that_came_during_the_join_is_sent_after_it() -> None:
    channel = make()
    channel.connected(0.0)
    assert channel.set_token(Secret("t2"), 1.0) == Effects()
    frame = assert_one_frame(channel.receive(reply("1", "ok"), 2.0), "access_token")
    assert frame.payload == {"access_token": "t2"}
    assert channel.set_token(Secret("t2"), 2.5) == Effects()  # the same again says nothing
    assert assert_one_frame(channel.set_token(Secret("t3"), 3.0), "access_token").join_ref == "1"


def test_a_rejoin_uses_the_newest_token() -> None:
    channel = joined()
    channel.disconnected(1.0)
    channel.set_token(Secret("t2"), 2.0)
    frame = assert_one_frame(channel.connected(3.0), "phx_join")
    assert isinstance(frame.payload, dict)
    assert frame.payload["access_token"] == "t2"


def test_a_refused_channel_stays_so_over_a_reconnect_until_a_token_comes() -> None:
    channel = make()
    channel.connected(0.0)
    channel.receive(reply("1", "error", {"reason": "Unauthorized: x"}), 0.0)
    channel.disconnected(1.0)
    assert channel.connected(2.0) == Effects()
    channel.disconnected(3.0)
    assert states(channel.set_token(Secret("t2"), 4.0)) == [(ChannelState.WAITING, "")]
    assert_one_frame(channel.connected(5.0), "phx_join")


def test_leave_is_final_and_idempotent() -> None:
    channel = joined()
    ref, _ = channel.push("bye", {}, 0.0)
    step = channel.leave()
    assert assert_one_frame(step, "phx_leave").join_ref == "1"
    assert step.events == [PushFailed(ref, "left", True), ChannelStateChanged(ChannelState.CLOSED, "")]
    assert channel.leave() == Effects()
    assert channel.connected(1.0) == Effects()
    assert channel.receive(close(), 1.0).events == []
    assert channel.deadline is None


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("InvalidJWTExpiration: x", Verdict.FRESH_TOKEN),
        ("MalformedJWT: x", Verdict.FATAL),
        ("JwtSignatureError: x", Verdict.FATAL),
        ("Fields `role` and `exp` are required in JWT", Verdict.FATAL),
        ("ConnectionRateLimitReached: x", Verdict.RETRY_LATER),
        ("Client presence rate limit exceeded", Verdict.RETRY_LATER),
        ("DatabaseLackOfConnections: x", Verdict.RETRY),
        ("", Verdict.RETRY),
    ],
)
def test_classify(reason: str, verdict: Verdict) -> None:
    assert classify(reason) is verdict


frames = st.builds(
    PhoenixFrame,
    st.sampled_from([None, "1", "2", "3"]),
    st.sampled_from([None, "1", "2", "3"]),
    st.just(TOPIC),
    st.sampled_from(["phx_reply", "phx_close", "phx_error", "system", "broadcast", "presence_state", "junk"]),
    st.fixed_dictionaries(
        {},
        optional={
            "status": st.sampled_from(["ok", "error", 1]),
            "response": st.sampled_from(
                [{}, {"reason": "Unauthorized: x"}, {"reason": "unmatched topic"}, "text", None]
            ),
            "message": st.sampled_from(["Token has expired", "Too many", 7]),
        },
    ),
)


@given(st.lists(frames | st.sampled_from(["up", "down", "tick", "push", "token", "leave"]), max_size=40))
def test_whatever_comes_the_channel_stays_sane(script: list[PhoenixFrame | str]) -> None:
    channel = make()
    now = 0.0
    is_up = False
    waiting: set[str] = set()
    for item in script:
        now += 1.0
        match item:
            case PhoenixFrame():
                if not is_up:  # a closed socket says nothing
                    continue
                step = channel.receive(item, now)
            case "up":
                is_up, step = True, channel.connected(now)
            case "down":
                is_up, step = False, channel.disconnected(now)
            case "tick":
                now = max(now, channel.deadline or now)
                step = channel.tick(now)
            case "push":
                ref, step = channel.push("offer", {}, now)
                waiting.add(ref)
            case "token":
                step = channel.set_token(Secret(f"t{now}"), now)
            case _:
                step = channel.leave()
        ended = [event.ref for event in step.events if isinstance(event, PushDone | PushFailed)]
        assert waiting.issuperset(ended), "every push ends once"
        waiting -= set(ended)
        if not is_up:
            assert not step.frames
            assert channel.state not in (ChannelState.JOINING, ChannelState.JOINED)
        if channel.state is ChannelState.WAITING and is_up:
            assert channel.deadline is not None, "a channel that waits has something to wait for"
        if channel.state is ChannelState.JOINING or waiting:
            assert channel.deadline is not None
