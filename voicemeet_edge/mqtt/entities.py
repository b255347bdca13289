"""What a home's automation is told of a device over MQTT, and how Home Assistant finds it.

Pure; the one rule: what happened and what is broken, never who called, what was said, or an address.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Final

from voicemeet_edge import __version__
from voicemeet_edge.call import observed
from voicemeet_edge.call.machine import State
from voicemeet_edge.records import dataclass

SELF_TEST_PART: Final = "line"  # what the self-test's faults are called among a device's
UNLOCK: Final = b"UNLOCK"


@dataclass(frozen=True, slots=True)
class Post:
    """One thing to publish; what is kept is told to whoever comes later."""

    topic: str
    payload: str
    kept: bool = True


@dataclass
class Entities:
    """One device's topics, and what it last said in them."""

    name: str
    prefix: str
    discovery: str
    has_lock: bool
    _faults: set[str] = field(default_factory=set)
    _state: str = State.IDLE.value
    _lock: str = "LOCKED"

    @property
    def node(self) -> str:
        """The device's part of a topic."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_") or "door"

    @property
    def available(self) -> str:
        """Where "online" stands while the device is there, and the broker's word "offline" when it is not."""
        return self._topic("available")

    @property
    def command(self) -> str:
        """Where the lock is told to open."""
        return self._topic("door/set")

    def announce(self) -> list[Post]:
        """Return what is said after each connection: how to find it, and how it is."""
        return [*self._configs(), *self._present(), Post(self.available, "online")]

    def take(self, event: observed.Observed) -> list[Post]:
        """Return what an event of the device makes known."""
        match event:
            case observed.StateChanged(state=state):
                before, self._state = self._state, state.value
                posts = [Post(self._topic("state"), self._state)]
                if state is State.SEEKING and before in (State.IDLE.value, State.ENDED.value):
                    posts.append(Post(self._topic("ring"), json.dumps({"event_type": "ring"}), kept=False))
                return posts
            case observed.FaultChanged(part=part, code=code):
                (self._faults.discard if code is None else self._faults.add)(part)
                return self._problems()
            case observed.DoorOpened():
                self._lock = "UNLOCKED"
                return self._locks()
            case _:
                return []

    def locked(self) -> list[Post]:
        """Return that the door has let go again."""
        self._lock = "LOCKED"
        return self._locks()

    def _topic(self, what: str) -> str:
        return f"{self.prefix}/{self.node}/{what}"

    def _present(self) -> list[Post]:
        return [Post(self._topic("state"), self._state), *self._problems(), *self._locks()]

    def _problems(self) -> list[Post]:
        broken = "ON" if self._faults - {SELF_TEST_PART} else "OFF"
        failed = "ON" if SELF_TEST_PART in self._faults else "OFF"
        return [Post(self._topic("problem"), broken), Post(self._topic("self_test"), failed)]

    def _locks(self) -> list[Post]:
        return [Post(self._topic("door"), self._lock)] if self.has_lock else []

    def _configs(self) -> list[Post]:
        """Return Home Assistant's discovery messages; an empty one takes a lock away that is no more."""
        states = [state.value for state in State]
        kinds: dict[tuple[str, str], Mapping[str, object]] = {
            ("event", "ring"): {"name": "Ring", "device_class": "doorbell", "event_types": ["ring"]},
            ("sensor", "state"): {"name": "State", "device_class": "enum", "options": states},
            ("binary_sensor", "problem"): {"name": "Problem", "device_class": "problem"},
            ("binary_sensor", "self_test"): {"name": "Self-test", "device_class": "problem"},
            ("lock", "door"): {"name": "Door", "command_topic": self.command},
        }
        posts = []
        for (kind, what), facts in kinds.items():
            topic = f"{self.discovery}/{kind}/voicemeet_{self.node}/{what}/config"
            text = json.dumps({**facts, **self._common(what)})
            posts.append(Post(topic, "" if kind == "lock" and not self.has_lock else text))
        return posts

    def _common(self, what: str) -> dict[str, object]:
        return {
            "state_topic": self._topic(what),
            "unique_id": f"voicemeet_{self.node}_{what}",
            "availability_topic": self.available,
            "device": {
                "identifiers": [f"voicemeet_{self.node}"],
                "name": self.name or "Door",
                "manufacturer": "VoiceMeet Edge",
                "sw_version": __version__,
            },
        }
