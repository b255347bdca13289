"""What devices say of their health, for the operator; nothing in it is about calls.

The one rule: nothing is kept on disk, and who is silent for three days goes. A device says it by itself, with
a token of its own that takes no part in calls. What it sealed for its operator (fleet_seal.py) is passed
on closed.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

from voicemeet_edge.errors import MessageError
from voicemeet_edge.fleet_seal import SEALED_CHARS
from voicemeet_edge.records import dataclass

MAX_DEVICES = 2_000  # more boxes than a house has; the longest silent goes first
FORGET_AFTER_S = 3 * 86_400.0  # s of silence; a box that was taken down is not shown for ever
MAX_TEXT = 80  # characters
MAX_FAULTS = 8
MAX_NUMBER = 1e12  # of seconds, degrees, megabytes: more is no such thing

_ID = re.compile(r"[0-9a-f]{16}\Z")
_SEALED = re.compile(rf"[A-Za-z0-9_-]{{{SEALED_CHARS}}}\Z")
_TEXTS = ("name", "version", "self_test")
_NUMBERS = ("up_s", "self_test_age_s", "temperature_c", "disk_free_mb", "memory_mb")


@dataclass(frozen=True, slots=True)
class Health:
    """What one device said, checked."""

    device: str
    facts: Mapping[str, object]

    @classmethod
    def parse(cls, body: object) -> Health:
        """Read a body; MessageError when out of shape. What nobody knows is left out."""
        if not isinstance(body, dict):
            raise MessageError("must be a JSON object")
        device = body.get("device")
        if not isinstance(device, str) or not _ID.match(device):
            raise MessageError("device must be 16 hex digits")
        if "sealed" in body:
            if not isinstance(body["sealed"], str) or not _SEALED.match(body["sealed"]):
                raise MessageError(f"sealed must be {SEALED_CHARS} letters and digits")
            # Only with these two can the operator open it; what stands beside a seal is of no use to him.
            return cls(device, {"device": device, "sealed": body["sealed"]})
        return cls(device, facts_of(body))


class Fleet:
    """The devices that spoke lately; told the time (monotonic)."""

    def __init__(self) -> None:
        self._devices: OrderedDict[str, tuple[Health, float]] = OrderedDict()

    def tell(self, health: Health, now: float) -> None:
        """Take what a device says; the last word counts."""
        self._devices[health.device] = health, now
        self._devices.move_to_end(health.device)
        while len(self._devices) > MAX_DEVICES:
            self._devices.popitem(last=False)

    def list(self, now: float) -> list[dict[str, object]]:
        """Return the devices, by name, with how long ago each spoke; those long silent are forgotten."""
        while self._devices and now - next(iter(self._devices.values()))[1] > FORGET_AFTER_S:
            self._devices.popitem(last=False)
        rows = [{**health.facts, "seen_s": round(now - at)} for health, at in self._devices.values()]
        return sorted(rows, key=lambda row: str(row.get("name", "")))


def facts_of(body: Mapping[str, object]) -> dict[str, object]:
    """Read what a device says of itself; MessageError when out of shape. What nobody knows is left out."""
    facts: dict[str, object] = {name: _text(body, name) for name in _TEXTS if body.get(name) is not None}
    facts |= {name: number_of(body, name) for name in _NUMBERS if body.get(name) is not None}
    faults = body.get("faults", [])
    if not isinstance(faults, list) or len(faults) > MAX_FAULTS:
        raise MessageError("faults must be a short list")
    facts["faults"] = [_text({"fault": fault}, "fault") for fault in faults]
    return facts


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise MessageError(f"{name} must be a text of at most {MAX_TEXT} printable characters")
    return value


def number_of(body: Mapping[str, object], name: str) -> float:
    """Return a number of a body; MessageError when it is none, or far too large."""
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_NUMBER:
        raise MessageError(f"{name} must be a number of at most {MAX_NUMBER:g}")
    return float(value)
