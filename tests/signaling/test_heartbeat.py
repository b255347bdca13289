"""The heartbeat: one per interval, dead when a reply is missing."""

from __future__ import annotations

import pytest

from voicemeet_edge.signaling.channel import Refs
from voicemeet_edge.signaling.frames import PhoenixFrame
from voicemeet_edge.signaling.heartbeat import Heartbeat


def reply(ref: str | None) -> PhoenixFrame:
    return PhoenixFrame(None, ref, "phoenix", "phx_reply", {"status": "ok", "response": {}})


def test_an_answered_heartbeat_is_followed_by_the_next() -> None:
    heartbeat = Heartbeat(Refs(), 25.0, now=0.0)
    assert heartbeat.tick(24.9) is None
    for n in (1, 2, 3):
        beat = heartbeat.tick(25.0 * n)
        assert beat == PhoenixFrame(None, str(n), "phoenix", "heartbeat", {})
        assert heartbeat.tick(25.0 * n + 1) is None
        heartbeat.receive(reply(beat.ref), 25.0 * n + 0.1)
    assert not heartbeat.is_dead
    assert heartbeat.deadline == 100.0


def test_a_missing_or_foreign_reply_means_dead() -> None:
    heartbeat = Heartbeat(Refs(), 25.0, now=0.0)
    heartbeat.tick(25.0)
    heartbeat.receive(reply("99"), 26.0)
    heartbeat.receive(reply(None), 26.0)
    heartbeat.receive(PhoenixFrame(None, "1", "phoenix", "other", {}), 26.0)
    assert heartbeat.deadline == 35.0
    assert heartbeat.tick(35.0) is None
    assert heartbeat.is_dead


def test_a_hurried_heartbeat_is_sent_at_once_and_must_be_answered_soon() -> None:
    heartbeat = Heartbeat(Refs(), 25.0, now=0.0)
    beat = heartbeat.hurry(5.0, within_s=2.0)
    assert beat is not None
    assert heartbeat.deadline == 7.0
    heartbeat.receive(reply(beat.ref), 5.1)
    assert heartbeat.deadline == 30.0, "answered: back to the usual pace"
    beat = heartbeat.hurry(6.0, within_s=2.0)
    assert heartbeat.hurry(6.5, within_s=2.0) is None, "one is on its way"
    assert heartbeat.deadline == 8.0
    assert heartbeat.tick(8.0) is None
    assert heartbeat.is_dead


def test_hurrying_gives_a_heartbeat_on_its_way_less_time() -> None:
    heartbeat = Heartbeat(Refs(), 25.0, now=0.0)
    assert heartbeat.tick(25.0) is not None
    assert heartbeat.hurry(26.0, within_s=2.0) is None
    assert heartbeat.deadline == 28.0
    heartbeat.tick(28.0)
    assert heartbeat.is_dead


def test_a_late_answer_is_doubted_and_how_late_depends_on_the_line() -> None:
    heartbeat = Heartbeat(Refs(), 25.0, now=0.0)
    assert heartbeat.doubted_at is None
    for asked_at, round_trip_s, doubt_s in (
        (25.0, 0.1, 0.5),
        (50.0, 0.4, 0.5),
        (75.0, 5.0, 1.2),
        (100.0, 0.0, 2.0),
    ):
        beat = heartbeat.tick(asked_at)
        assert beat is not None
        assert heartbeat.doubted_at == pytest.approx(asked_at + doubt_s)
        heartbeat.receive(reply(beat.ref), asked_at + round_trip_s)
        assert heartbeat.doubted_at is None
