"""What a sound card is to this project: two blocking streams of 10 ms periods, one rate, one format.

Real adapter: audio/alsa.py. Doubles: voicemeet_edge/testing/sound.py. Threads call these, never the
event loop.
"""

from __future__ import annotations

from typing import Protocol


class CaptureStream(Protocol):
    """An open microphone."""

    def read(self) -> bytes:
        """Block until one period is there and return its PERIOD_BYTES bytes.

        Raises:
            XrunError: periods were lost before this call; the stream goes on.
            DeviceLostError: the card is gone.
            SoundFatalError: the card cannot be used.
        """

    def close(self) -> None:
        """Free the card; idempotent, never raises, never blocks longer than a period."""


class PlaybackStream(Protocol):
    """An open loudspeaker."""

    periods: int
    """How many periods its buffer holds."""

    def write(self, pcm: bytes) -> None:
        """Block until the card has room for one period (PERIOD_BYTES) and hand it over.

        Raises: as `CaptureStream.read`; after XrunError the same period may be written again.
        """

    def close(self) -> None:
        """Drop what was not heard and free the card; idempotent, never raises."""


class SoundCard(Protocol):
    """A microphone and a loudspeaker, found by stable name."""

    def open_capture(self) -> CaptureStream:
        """Open the microphone. Raises: DeviceLostError, SoundFatalError."""

    def open_playback(self) -> PlaybackStream:
        """Open the loudspeaker. Raises: DeviceLostError, SoundFatalError."""
