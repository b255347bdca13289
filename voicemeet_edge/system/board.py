"""What the device is doing, for whoever asks: one sentence, one table, counters; pure.

One rule: nothing here names a person, a place, an address, a call or a key. It is told the device's events,
as its observer is, and answers with values.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from voicemeet_edge.call.machine import State
from voicemeet_edge.call.observed import (
    BackendChanged,
    ButtonPressed,
    ConnectionFault,
    FaultChanged,
    FirstAudio,
    LampChanged,
    LoudspeakerOpened,
    Matched,
    MicrophoneChanged,
    Observed,
    ReportChanged,
    Started,
    StateChanged,
)
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass

# What a fault's part and code mean to the person who must mend it.
PARTS = {
    "microphone": "the microphone",
    "loudspeaker": "the loudspeaker",
    "backend": "the hub",
    "panel": "the panel",
    "line": "the line",
    "system": "the system",
}
CODES = {
    "sound_device_lost": "is missing or in use by another program",
    "sound_unusable": "cannot do 48 kHz, 16 bit",
    "microphone_muted": "is muted",
    "button_stuck": "has a button that is stuck",
    "tampered": "was opened: set the device up again",
    "self_test_failed": "failed the device's test: `voicemeet-edge self-test` says at what",
    "update_refused": "was brought an update that is not for it: see `voicemeet-edge update --history`",
    "integrity_lost": "is damaged: update it, or write the card anew",
    "unauthorized": "refuses the device's key",
}
STATES = {
    "idle": "Ready: press call",
    "seeking": "Looking for somebody to talk to",
    "ringing": "Ringing",
    "listening": "A desk is speaking here; nobody hears this device",
    "connecting": "Found somebody, setting up the line",
    "talking": "In a call",
    "reconnecting": "In a call, the line is lost and being set up again",
    "ended": "The call is over",
}
STARTING = "Starting"
WAITING = "Waiting for the hub: no connection"
WAITING_BECAUSE = "Waiting for the hub"
OUTCOMES = tuple(reason.value for reason in EndReason)


@dataclass
class Board:
    """The device's present state and its counts since it started; told events, asked for values."""

    started: bool = False
    state: str = "idle"
    lamp: str = "off"
    backend_up: bool | None = None
    """None: not tried yet."""
    not_connected: NotConnected | None = None
    """Why there is no connection, or why the hub refuses this device; None: not known, or neither."""
    microphone_open: bool = False
    loudspeaker_known: bool = False
    """The loudspeaker was opened once, or named its fault."""
    report: str = ""
    faults: dict[str, str] = field(default_factory=dict)
    """Part: code."""
    calls: Counter[str] = field(default_factory=Counter)
    """How many calls ended, by the reason's word."""
    presses: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    """Times the backend was reached again after it was lost."""
    path_losses: int = 0
    """Times the line of a call was lost."""
    set_up_s: list[float] = field(default_factory=list)
    """Seconds from the match to the first sound of the other side, of the last calls."""
    _matched_at: float | None = None

    MAX_SET_UPS = 100

    def observe(self, event: Observed) -> None:
        """Take an event of the device, as its observer gets it; what is of no interest is passed over."""
        match event:
            case Started():
                self.started = True
            case StateChanged():
                self._state_changed(event)
            case LampChanged():
                self.lamp = event.lamp.value
            case BackendChanged():
                self.reconnects += event.is_up and self.backend_up is False
                self.backend_up = event.is_up
            case ConnectionFault():
                self.not_connected = event.reason
            case MicrophoneChanged():
                self.microphone_open = event.is_open
            case LoudspeakerOpened():
                self.loudspeaker_known = True
            case FaultChanged():
                self._fault_changed(event)
            case ReportChanged():
                self.report = event.report.value
            case ButtonPressed():
                self.presses[event.button.value] += 1
            case Matched():
                self._matched_at = event.at_s
            case FirstAudio():
                self._first_audio(event)
            case _:
                pass

    @property
    def sentence(self) -> str:
        """What the device is doing, for a person."""
        if not self.started:
            return STARTING
        if self.state != "idle":
            return STATES.get(self.state, self.state)
        if self.faults:
            return f"Out of order: {next(iter(self.fault_sentences().values()))}"
        if self.not_connected is not None:
            return f"{WAITING_BECAUSE}: {self.not_connected.said}"
        return STATES["idle"] if self.backend_up else WAITING

    def fault_sentences(self) -> dict[str, str]:
        """What is broken, in words, by part; the longest broken first."""
        return {part: _fault(part, code) for part, code in self.faults.items()}

    @property
    def has_shown_itself(self) -> bool:
        """Whether panel, sound and signaling have each worked once or named their fault."""
        connection_known = self.backend_up is not None or self.not_connected is not None
        return self.started and connection_known and self.loudspeaker_known

    def _state_changed(self, event: StateChanged) -> None:
        self.state = event.state.value
        if event.state is State.ENDED:
            self.calls[(event.reason or EndReason.FAILED).value] += 1
            self._matched_at = None
        elif event.state is State.RECONNECTING:
            self.path_losses += 1

    def _fault_changed(self, event: FaultChanged) -> None:
        self.faults.pop(event.part, None)
        if event.code is not None:
            self.faults[event.part] = event.code
        if event.part == "loudspeaker":
            self.loudspeaker_known = True

    def _first_audio(self, event: FirstAudio) -> None:
        if self._matched_at is not None:
            self.set_up_s.append(event.at_s - self._matched_at)
            del self.set_up_s[: -self.MAX_SET_UPS]
            self._matched_at = None


def _fault(part: str, code: str) -> str:
    reason = NotConnected.of(code)
    if reason is not None:
        return reason.said
    return f"{PARTS.get(part, part)} {CODES.get(code, f'does not work ({code})')}"
