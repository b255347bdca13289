"""What a device lets others see of itself: values, for the status line, the journal, the demo and the tests.

One rule: no secret, no address, no id; and nobody answers. The check words are there for the demo, which
shows them to the people in the call: whoever writes anything down leaves `WordsKnown` out.
"""

from __future__ import annotations

from collections.abc import Callable

from voicemeet_edge.call.commands import WordsKnown
from voicemeet_edge.call.machine import ReportState, State
from voicemeet_edge.call.signs import Lamp, Prompt, Tone
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.panel.interface import ButtonEvent
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass


@dataclass(frozen=True, slots=True)
class Started:
    """The device serves its buttons."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """Everything is closed."""


@dataclass(frozen=True, slots=True)
class ButtonPressed:
    """A person did this."""

    button: ButtonEvent


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The call machine is in another state."""

    state: State
    at_s: float
    """Monotonic time, here and below."""
    reason: EndReason | None = None
    """Why the call ended; only with ENDED."""


@dataclass(frozen=True, slots=True)
class ToneAsked:
    """The loudspeaker was asked for this tone."""

    tone: Tone


@dataclass(frozen=True, slots=True)
class LampChanged:
    """The lamp was asked to show this."""

    lamp: Lamp


@dataclass(frozen=True, slots=True)
class FaultChanged:
    """A part of this box broke, or was mended: then without a code."""

    part: str
    code: str | None


@dataclass(frozen=True, slots=True)
class ResetAsked:
    """Somebody held both buttons for ten seconds while the device was idle."""


@dataclass(frozen=True, slots=True)
class VolumeChosen:
    """Somebody set the volume at the buttons, in per cent."""

    volume: int


@dataclass(frozen=True, slots=True)
class Tampered:
    """The housing was opened: the call ends, and the device with it."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The other party was found."""

    at_s: float
    is_offerer: bool


@dataclass(frozen=True, slots=True)
class DoorOpened:
    """A desk opened the door, for so long."""

    seconds: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Said:
    """A visitor is told this."""

    prompt: Prompt
    place: int


@dataclass(frozen=True, slots=True)
class WordsSpoken:
    """So many check words were said aloud."""

    count: int


@dataclass(frozen=True, slots=True)
class BackendChanged:
    """The signaling socket came up or went down."""

    is_up: bool


@dataclass(frozen=True, slots=True)
class ConnectionFault:
    """It became known why there is no connection to the hub, or why it refuses us; None: neither any more."""

    reason: NotConnected | None


@dataclass(frozen=True, slots=True)
class GroundMoved:
    """Network, clock or sleep: what was opened before is no longer trusted."""

    what: str


@dataclass(frozen=True, slots=True)
class ReportChanged:
    """A report was filed, sent, refused, or waits."""

    report: ReportState


@dataclass(frozen=True, slots=True)
class MicrophoneChanged:
    """The capture stream opened or closed."""

    is_open: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class LoudspeakerOpened:
    """The playback stream opened."""


@dataclass(frozen=True, slots=True)
class FirstAudio:
    """The first decoded frame of the other side was played, in this call or since it was reconnected."""

    at_s: float


@dataclass(frozen=True, slots=True)
class SoundLost:
    """A direction of the card failed or could not be opened."""

    code: str
    is_capture: bool


Observed = (
    Started
    | Stopped
    | ButtonPressed
    | StateChanged
    | ToneAsked
    | LampChanged
    | FaultChanged
    | ResetAsked
    | Tampered
    | VolumeChosen
    | Matched
    | WordsKnown
    | DoorOpened
    | Said
    | WordsSpoken
    | BackendChanged
    | ConnectionFault
    | GroundMoved
    | ReportChanged
    | MicrophoneChanged
    | LoudspeakerOpened
    | FirstAudio
    | SoundLost
)

Observer = Callable[[Observed], None]


def ignore(_event: Observed) -> None:
    """The observer of a device nobody observes."""
