"""What the engine tells and counts; values only."""

from __future__ import annotations

from voicemeet_edge.errors import SoundError
from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.playout import PlayoutStats


@dataclass(frozen=True, slots=True)
class CaptureOpened:
    """The microphone is open: the lamp says so from now on."""


@dataclass(frozen=True, slots=True)
class CaptureClosed:
    """The microphone is closed, really."""


@dataclass(frozen=True, slots=True)
class PlaybackOpened:
    """The loudspeaker is open: it is there and works as far as a card can say."""


@dataclass(frozen=True, slots=True)
class FirstAudioPlayed:
    """The first decoded frame of the peer has been handed to the loudspeaker."""

    at_s: float
    """Monotonic time."""


@dataclass(frozen=True, slots=True)
class SoundFailed:
    """A direction of the card failed or could not be opened; said once until `SoundRecovered`."""

    error: SoundError
    capture: bool
    """The microphone's, else the loudspeaker's."""


@dataclass(frozen=True, slots=True)
class SoundRecovered:
    """The direction that failed is open again."""

    capture: bool


EngineEvent = CaptureOpened | CaptureClosed | PlaybackOpened | FirstAudioPlayed | SoundFailed | SoundRecovered


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since the engine was made; the playout's are of the present or last call."""

    capture_xruns: int = 0
    playback_xruns: int = 0
    sound_losses: int = 0
    """Times a card vanished or could not be opened."""
    thread_errors: int = 0
    """Errors nobody foresaw, survived by opening the stream again."""
    frames_sent: int = 0
    frames_dropped: int = 0
    """Encoded frames thrown away because the loop stood still."""
    packets_received: int = 0
    ambient_db: float | None = None
    """Noise at the microphone in this call or the last, dB of full scale; None before it is known."""
    echo_db: float | None = None
    """How loud the loudspeaker comes back, dB over what was played, at most; None before it is known."""
    noise_boost_db: float = 0.0
    """How much louder the loudspeaker is for it."""
    reference_gaps: int = 0
    reference_slips: int = 0
    playout: PlayoutStats | None = None
    """None before the first call."""
