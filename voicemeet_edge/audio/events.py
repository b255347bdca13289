"""What the engine is told, tells and counts; values only."""

from __future__ import annotations

from dataclasses import dataclass

from voicemeet_edge.errors import SoundError
from voicemeet_edge.voice.playout import PlayoutStats


@dataclass(frozen=True, slots=True)
class VoiceOptions:
    """The voice part of the settings, already validated."""

    volume_percent: float = 80.0
    """0 (silent) to 100; speech and tones alike."""
    microphone_gain_db: float = 0.0
    """Added after the echo canceller, with saturation."""
    echo: str = "auto"
    """A name `voice.echo.choose` knows."""
    half_duplex: bool = False
    """Duck the microphone while the far end speaks, whatever `echo` says."""
    bitrate: int | None = None
    """Bits per second of Opus, always; None (or the clean rate itself) lets it follow the loss."""
    complexity: int = 6
    """Opus complexity 0 to 10; on x86 6 costs 8 ms of CPU per second of speech, 8 costs 11."""
    real_time: bool = True
    """Ask the kernel for real-time priority of the two sound threads; refusal is fine."""


@dataclass(frozen=True, slots=True)
class CaptureOpened:
    """The microphone is open: the lamp says so from now on."""


@dataclass(frozen=True, slots=True)
class CaptureClosed:
    """The microphone is closed, really."""


@dataclass(frozen=True, slots=True)
class FirstAudioPlayed:
    """The first decoded frame of the peer has been handed to the loudspeaker."""

    at_s: float
    """Monotonic time."""


@dataclass(frozen=True, slots=True)
class PathSilent:
    """Nothing was received for `since_s` seconds in a call; said once until `PathBack`."""

    since_s: float


@dataclass(frozen=True, slots=True)
class PathBack:
    """Packets arrive again after `PathSilent`."""

    after_s: float


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


EngineEvent = (
    CaptureOpened | CaptureClosed | FirstAudioPlayed | PathSilent | PathBack | SoundFailed | SoundRecovered
)


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
    reference_gaps: int = 0
    reference_slips: int = 0
    playout: PlayoutStats | None = None
    """None before the first call."""
