"""What on this box is broken, how long a call bears it, and when a refused desk asks again.

One rule: a fault is a fault of this device, shown on its lamp until it is mended; whether it also ends the
call is decided here. Told what happens and the time (seconds, monotonic); answers with what to tell the
call machine.
"""

from __future__ import annotations

from voicemeet_edge.call.commands import Tell
from voicemeet_edge.call.machine import IN_CALL, Event, State
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.reasons import EndReason

MICROPHONE_GRACE_S = 10.0  # s an unplugged microphone may be away in a call before the call ends
STANDBY_PAUSE_S = 30.0  # s before an answerer that was refused asks again
STANDBY_GAP_S = 1.0  # s between two calls that never ring: each costs a certificate and sockets

_MICROPHONE, _LOUDSPEAKER, _BACKEND, _PANEL, _LINE = "microphone", "loudspeaker", "backend", "panel", "line"
_SYSTEM = "system"


class Faults:
    """The faults of one device; see the module's docstring."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}  # of each broken part, oldest first
        self._changes: list[tuple[str, str | None]] = []
        self._state = State.IDLE
        self._microphone_by: float | None = None  # it must be back by then
        self._pause_until: float | None = None
        self._stood_by_at = float("-inf")

    @property
    def current(self) -> str | None:
        """The code of what is broken, the longest broken first; None: nothing is."""
        return next(iter(self._codes.values()), None)

    def changes(self) -> list[tuple[str, str | None]]:
        """Which parts broke (their codes) or were mended (None) since this was last asked."""
        changes, self._changes = self._changes, []
        return changes

    @property
    def deadline(self) -> float | None:
        """The time at which `handle_timer` wants to be called; None: never."""
        times = [time for time in (self._microphone_by, self._pause_until) if time is not None]
        return min(times, default=None)

    def state_changed(self, state: State) -> None:
        """The call machine is in another state: a microphone's grace is not the next call's."""
        self._state = state
        if state is not State.TALKING:
            self._microphone_by = None

    def sound_failed(self, code: str, now: float, *, is_microphone: bool, is_retryable: bool) -> list[Tell]:
        """A direction of the card failed or cannot be opened; a lost one is being tried again."""
        self._set(_MICROPHONE if is_microphone else _LOUDSPEAKER, code)
        if not is_retryable:
            return [Tell(Event.FAILED, EndReason.of(code))] if self._state in IN_CALL else []
        if is_microphone and self._state is State.TALKING and self._microphone_by is None:
            self._microphone_by = now + MICROPHONE_GRACE_S
        return []

    def sound_recovered(self, *, is_microphone: bool) -> None:
        """The direction that failed works again."""
        self._set(_MICROPHONE if is_microphone else _LOUDSPEAKER, None)
        if is_microphone:
            self._microphone_by = None

    def panel_changed(self, code: str | None) -> None:
        """The panel has a fault that somebody must mend, or has none any more (None)."""
        self._set(_PANEL, code)

    def self_test_ended(self, *, failed: bool) -> None:
        """The device called itself; a line that does not work is shown before somebody needs it."""
        self._set(_LINE, "self_test_failed" if failed else None)

    def system_changed(self, code: str | None) -> None:
        """The system below us is not what was built, or is again (None)."""
        self._set(_SYSTEM, code)

    def refused(self, reason: NotConnected | None) -> None:
        """The hub gives this device no token, or does again (None)."""
        self._set(_BACKEND, None if reason is None else reason.value)

    def search_refused(self, code: str, now: float) -> list[Tell]:
        """The backend refused to search, and asking again at once would not help.

        Who pressed call is told. A desk that stands by is not: nobody did anything, so the lamp says it
        until it asks again.
        """
        if self._state is State.SEEKING:
            return [Tell(Event.FAILED, EndReason.of(code))]
        self._set(_BACKEND, code)
        self._pause_until = now + STANDBY_PAUSE_S
        return []

    def call_over(self, now: float) -> list[Tell]:
        """A search or call has ended and freed everything.

        After a refusal the next search waits, and so it does a little after a call that never rang: whoever
        matches us with nobody, again and again, must not keep the box busy.
        """
        if self._state is State.IDLE and self._pause_until is None:
            due, self._stood_by_at = self._stood_by_at + STANDBY_GAP_S, now
            if now < due:
                self._pause_until = due
        return [Tell(Event.SETTLED)] if self._pause_until is None else []

    def handle_timer(self, now: float) -> list[Tell]:
        """Do what is due at `now`; harmless when nothing is."""
        tells: list[Tell] = []
        if self._microphone_by is not None and self._microphone_by <= now:
            self._microphone_by = None
            tells.append(Tell(Event.FAILED, EndReason.MICROPHONE_LOST))
        if self._pause_until is not None and self._pause_until <= now:
            self._pause_until, self._stood_by_at = None, now
            self._set(_BACKEND, None)
            tells.append(Tell(Event.SETTLED))
        return tells

    def _set(self, part: str, code: str | None) -> None:
        if code is not None:
            self._codes[part] = code  # one that goes on being broken keeps its place
        elif self._codes.pop(part, None) is None:
            return  # it was not broken
        self._changes.append((part, code))
