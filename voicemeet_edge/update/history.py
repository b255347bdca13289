"""What a device remembers of its updates: how it is chosen, what failed here, what is on trial; pure.

One rule: whatever is read back is checked as outside input is. A file that makes no sense is forgotten, which
costs one more try of an update and nothing else.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, field, replace

from voicemeet_edge.records import dataclass
from voicemeet_edge.update.version import SystemVersion, VersionError

MAX_HISTORY_BYTES = 16_384  # bytes; ours have about 500
MAX_FAILED = 8  # versions; older ones are no longer offered by anybody
MAX_SENTENCE = 300  # characters


@dataclass(frozen=True)
class Failed:
    """A version that did not prove itself on this device."""

    version: str
    why: str
    at: float
    """Seconds since 1970."""
    tries: int = 1


@dataclass(frozen=True)
class OnTrial:
    """A version that was written and has yet to prove itself."""

    version: str
    slot: str
    """The slot it is in, "a" or "b"."""
    came_from: str
    """The slot to go back to."""


@dataclass(frozen=True)
class History:
    """Kept on the data partition, so the same for both slots; a slot may add to it and must not need it."""

    device_id: str = ""
    """Random; decides the place in a staged roll-out and is told to nobody."""
    postponed_until: float = 0.0
    """Seconds since 1970."""
    trial: OnTrial | None = None
    failed: tuple[Failed, ...] = field(default_factory=tuple)
    last: str = ""
    """How the last update went, as one sentence."""
    untold: str = ""
    """Outcome that the update server has yet to hear: "VERSION good" or "VERSION bad"."""

    @classmethod
    def new(cls, trial: OnTrial | None = None) -> History:
        """Begin one, with an id of its own; of a lost one the trial may be known from elsewhere."""
        return cls(device_id=secrets.token_hex(16), trial=trial)

    @classmethod
    def parse(cls, raw: bytes, trial: OnTrial | None = None) -> History:
        """Read it back; what makes no sense is a new one, with the trial that is known from elsewhere."""
        try:
            if len(raw) > MAX_HISTORY_BYTES:
                raise ValueError
            table = json.loads(raw)
            return cls._checked(table)
        except (ValueError, TypeError, KeyError, RecursionError, AttributeError, OverflowError):
            return cls.new(trial)

    @classmethod
    def _checked(cls, table: dict[str, object]) -> History:
        trial, failed = table["trial"], table["failed"]
        if not isinstance(failed, list) or len(failed) > MAX_FAILED:
            raise ValueError
        device_id = _line(table["device_id"])
        if not device_id:
            raise ValueError
        return cls(
            device_id=device_id,
            postponed_until=_seconds(table["postponed_until"]),
            trial=None if trial is None else _trial(trial),
            failed=tuple(_failed(one) for one in failed),
            last=_line(table["last"]),
            untold=_line(table["untold"]),
        )

    def serialize(self) -> bytes:
        """Write it for the file."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    def failure_of(self, version: SystemVersion) -> Failed | None:
        """Return how a version failed here; None when it did not."""
        return next((one for one in self.failed if one.version == str(version)), None)

    def begins(self, version: SystemVersion, slot: str, came_from: str) -> History:
        """Remember that a version was written and is tried next."""
        return replace(self, trial=OnTrial(str(version), slot, came_from), postponed_until=0.0)

    def proved(self) -> History:
        """Remember that the version on trial is trusted."""
        if self.trial is None:
            return self
        version = self.trial.version
        return replace(
            self,
            trial=None,
            failed=tuple(one for one in self.failed if one.version != version),
            last=f"Updated to {version}.",
            untold=f"{version} good",
        )

    def fell_back(self, why: str, now: float) -> History:
        """Remember that the version on trial did not prove itself, and why."""
        if self.trial is None:
            return self
        version = self.trial.version
        before = next((one.tries for one in self.failed if one.version == version), 0)
        others = tuple(one for one in self.failed if one.version != version)
        mine = Failed(version, why[:MAX_SENTENCE], now, before + 1)
        return replace(
            self,
            trial=None,
            failed=(*others, mine)[-MAX_FAILED:],
            last=f"The update to {version} was taken back: {why}."[:MAX_SENTENCE],
            untold=f"{version} bad",
        )

    def refused(self, why: str) -> History:
        """Remember that an update was refused before anything was changed."""
        return replace(self, last=f"The update was refused: {why}."[:MAX_SENTENCE])


def _line(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_SENTENCE or not value.isprintable():
        raise ValueError
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
        raise ValueError
    return float(value)


def _version(value: object) -> str:
    try:
        return str(SystemVersion.parse(_line(value)))
    except VersionError:
        raise ValueError from None


def _trial(table: object) -> OnTrial:
    if not isinstance(table, dict):
        raise TypeError
    slot, came_from = table["slot"], table["came_from"]
    if {slot, came_from} != {"a", "b"}:
        raise ValueError
    return OnTrial(_version(table["version"]), str(slot), str(came_from))


def _failed(table: dict[str, object]) -> Failed:
    tries = table["tries"]
    if isinstance(tries, bool) or not isinstance(tries, int) or not 1 <= tries <= 1_000_000:
        raise ValueError
    return Failed(_version(table["version"]), _line(table["why"]), _seconds(table["at"]), tries)
