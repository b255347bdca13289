"""What a device says over MQTT of what happens to it."""

from __future__ import annotations

import json

from voicemeet_edge.call import observed
from voicemeet_edge.call.machine import State
from voicemeet_edge.mqtt.entities import Entities, Post


def entities(*, has_lock: bool = False) -> Entities:
    return Entities("Side entrance", "voicemeet", "homeassistant", has_lock)


def test_somebody_rings() -> None:
    side = entities()
    ring = Post("voicemeet/side_entrance/ring", '{"event_type": "ring"}', kept=False)
    assert side.take(observed.StateChanged(State.SEEKING, 1.0)) == [
        Post("voicemeet/side_entrance/state", "seeking"),
        ring,
    ]
    assert ring not in side.take(observed.StateChanged(State.CONNECTING, 2.0))
    assert ring not in side.take(observed.StateChanged(State.IDLE, 3.0))


def test_faults_and_the_self_test_are_told_apart() -> None:
    side = entities()
    problem, test = (f"voicemeet/side_entrance/{what}" for what in ("problem", "self_test"))
    assert side.take(observed.FaultChanged("sound", "gone")) == [Post(problem, "ON"), Post(test, "OFF")]
    assert side.take(observed.FaultChanged("line", "bad")) == [Post(problem, "ON"), Post(test, "ON")]
    assert side.take(observed.FaultChanged("sound", None)) == [Post(problem, "OFF"), Post(test, "ON")]


def test_the_lock_is_there_only_where_it_may_be_opened() -> None:
    with_lock, without = entities(has_lock=True), entities()
    door = "homeassistant/lock/voicemeet_side_entrance/door/config"
    (config,) = [post for post in with_lock.announce() if post.topic == door]
    assert json.loads(config.payload)["command_topic"] == "voicemeet/side_entrance/door/set"
    assert [post.payload for post in without.announce() if post.topic == door] == [""]
    assert with_lock.take(observed.DoorOpened(3.0, 1.0)) == [Post("voicemeet/side_entrance/door", "UNLOCKED")]
    assert with_lock.locked() == [Post("voicemeet/side_entrance/door", "LOCKED")]
    assert without.take(observed.DoorOpened(3.0, 1.0)) == []


def test_a_name_of_any_letters_makes_a_topic() -> None:
    for name in ("", "+/#", "Tür 1"):
        node = Entities(name, "voicemeet", "homeassistant", False).node
        assert node
        assert set("+/# ").isdisjoint(node)
