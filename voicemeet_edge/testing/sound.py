"""A sound card without hardware: speech in, WAV out, paced by a clock, and able to fail on demand.

One rule: its time line is true. Sample i of a recording was heard at `mark + i / rate` on the monotonic
clock (CLOCK_MONOTONIC is one clock for all processes of a machine), also over underruns, which are
recorded as the silence they are; so the delay between two processes can be read off two recordings.
"""

from __future__ import annotations

import json
import struct
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from voicemeet_edge.audio.card import CaptureStream, PlaybackStream, SoundCard
from voicemeet_edge.audio.wav import read_wav
from voicemeet_edge.errors import DeviceLostError, SoundError, XrunError
from voicemeet_edge.records import dataclass
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.format import PERIOD_BYTES, PERIOD_SAMPLES, SAMPLE_RATE, Samples

CAPTURE_BUFFER = 4 * PERIOD_SAMPLES  # samples; as the real card is opened
# samples (30 ms). In a call two thirds are in it at most: what the delay figures of the benches assume.
PLAYBACK_BUFFER = 3 * PERIOD_SAMPLES
MAX_SILENCE = 10 * SAMPLE_RATE  # samples; a stall longer than this starts a new mark instead of a long gap
MAX_RECORDING = 3600 * SAMPLE_RATE  # samples; a forgotten file stops growing after an hour (345 MB)
MAX_KEPT = 90 * SAMPLE_RATE  # samples (9 MB); without a file, a device that runs for days must not grow
FLUSH_SAMPLES = SAMPLE_RATE  # samples; a killed process loses at most a second of its recording
AIR = 2 * SAMPLE_RATE  # samples of heard sound kept for the echo path
TAP_S = 0.002  # s between two reflections
SPEECH = "speech"  # in the place of a file: generated speech
SPEECH_S = 30.0  # s of generated speech before it repeats
MAX_MARKS = 1000  # opens remembered; bounded for devices that live long


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a stretch of samples lies in time: `sample` was heard (or said) at `monotonic_s`."""

    sample: int
    monotonic_s: float


@dataclass(frozen=True, slots=True)
class Echo:
    """The way from the loudspeaker into the microphone: one reflection per tap."""

    delay_ms: float = 20.0
    gain: float = 0.3
    taps: tuple[float, ...] = (1.0, 0.0, -0.4, 0.2)
    """Gains of reflections 2 ms apart."""


def _wav_header(size: int) -> bytes:
    """Return the 44 bytes before `size` bytes of mono 16-bit samples."""
    rate = SAMPLE_RATE
    chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + chunk + struct.pack("<4sI", b"data", size)


class Recording:
    """What was heard, in memory or in a WAV file, with the marks of its time line."""

    def __init__(self, path: Path | None) -> None:
        self.marks: list[Mark] = []
        self.samples = 0
        self._path = path
        self._pending = bytearray()
        self._kept = bytearray()
        self._file = path.open("wb") if path is not None else None
        self._flush()

    def mark(self, monotonic_s: float) -> None:
        """Say when the next sample is heard."""
        if len(self.marks) < MAX_MARKS:
            self.marks.append(Mark(self.samples, monotonic_s))

    def append(self, pcm: bytes) -> None:
        """Add samples; flushed to the file once a second."""
        if self.samples * 2 + len(pcm) > (MAX_KEPT if self._path is None else MAX_RECORDING) * 2:
            return
        self.samples += len(pcm) // 2
        if self._file is None:
            self._kept += pcm
            return
        self._pending += pcm
        if len(self._pending) >= FLUSH_SAMPLES * 2:
            self._flush()

    def heard(self) -> Samples:
        """Return everything heard so far."""
        if self._path is None:
            return np.frombuffer(bytes(self._kept), np.int16)
        self._flush()
        return np.fromfile(self._path, np.int16, offset=44)

    def _flush(self) -> None:
        """Write what is pending, a header that is right, and the marks beside it as JSON."""
        if self._file is None or self._path is None:
            return
        self._file.seek(0, 2)
        self._file.write(self._pending)
        self._pending.clear()
        size = self.samples * 2
        self._file.seek(0)
        self._file.write(_wav_header(size))
        self._file.flush()
        marks = [asdict(mark) for mark in self.marks]
        self._path.with_suffix(".marks.json").write_text(json.dumps({"rate": SAMPLE_RATE, "marks": marks}))

    def close(self) -> None:
        """Flush and close the file."""
        self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None


class VirtualCard(SoundCard):
    """A microphone that hears a file and a loudspeaker that writes one.

    Args:
        source: what the microphone hears: samples, a WAV file, or "speech" for generated speech.
        recording: WAV file for what is heard, or None to keep the first 90 s in memory (`heard()`).
        loop: whether the source starts again at its end; else silence follows.
        drift_ppm: how much faster than the system clock both directions run.
        capture_drift_ppm: how much faster than playback the microphone runs (two USB devices).
        echo: the way of the sound from loudspeaker to microphone, or None.
        playback_periods: how many the loudspeaker's buffer holds.
    """

    def __init__(
        self,
        source: Samples | str | Path | None = None,
        recording: str | Path | None = None,
        *,
        loop: bool = True,
        drift_ppm: float = 0.0,
        capture_drift_ppm: float = 0.0,
        echo: Echo | None = None,
        playback_periods: int = PLAYBACK_BUFFER // PERIOD_SAMPLES,
    ) -> None:
        self.playback_periods = playback_periods
        self.source = _load(source)
        self.loop = loop
        self.echo = echo
        self.playback_rate = SAMPLE_RATE * (1.0 + drift_ppm * 1e-6)
        self.capture_rate = self.playback_rate * (1.0 + capture_drift_ppm * 1e-6)
        self.recording = Recording(Path(recording) if recording else None)
        self.capture_marks: list[Mark] = []
        """When sample 0 of the source was said, one mark per open."""
        self.capture_xruns = 0
        self.playback_xruns = 0
        self.open_captures = 0
        self.open_playbacks = 0
        # Its first period is there once more behind its end, so that every period is one slice.
        self._air = np.zeros(AIR + PERIOD_SAMPLES, np.float32)
        self._air_start = time.monotonic()
        self._failing = threading.Event()
        self._refusal: SoundError | None = None
        self._xruns_wanted = {"capture": 0, "playback": 0}
        self._lock = threading.Lock()

    # What a test does to the card -------------------------------------------------------------

    def unplug(self) -> None:
        """Take the card away: open streams fail within a period, opening fails."""
        self._failing.set()

    def replug(self) -> None:
        """Put the card back."""
        self._failing.clear()

    def refuse(self, error: SoundError | None) -> None:
        """Make opening fail with `error`, or None to allow it again."""
        self._refusal = error

    def provoke_xrun(self, *, capture: bool = False, playback: bool = False) -> None:
        """Make the next read or write report a lost period."""
        with self._lock:
            self._xruns_wanted["capture"] += capture
            self._xruns_wanted["playback"] += playback

    def heard(self) -> Samples:
        """Return everything the loudspeaker said so far."""
        with self._lock:
            return self.recording.heard()

    def close(self) -> None:
        """Finish the recording; call it after the engine is closed."""
        with self._lock:
            self.recording.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the engine does to it ---------------------------------------------------------------

    @override
    def open_capture(self) -> CaptureStream:
        """Open the microphone."""
        self._check_open()
        return _VirtualCapture(self)

    @override
    def open_playback(self) -> PlaybackStream:
        """Open the loudspeaker."""
        self._check_open()
        return _VirtualPlayback(self)

    def _check_open(self) -> None:
        self.check_present()
        if self._refusal is not None:
            raise self._refusal

    def check_present(self) -> None:
        """Raise DeviceLostError while the card is unplugged."""
        if self._failing.is_set():
            raise DeviceLostError("the virtual card is unplugged")

    def take_provoked_xrun(self, direction: str) -> bool:
        """Say whether a test asked for an xrun in this direction, once per request."""
        with self._lock:
            if not self._xruns_wanted[direction]:
                return False
            self._xruns_wanted[direction] -= 1
            return True

    def count(self, *, captures: int = 0, playbacks: int = 0) -> None:
        """Keep the number of open streams, so that a test can see that none is left."""
        with self._lock:
            self.open_captures += captures
            self.open_playbacks += playbacks

    def record(self, pcm: bytes) -> None:
        """Add heard samples to the recording."""
        with self._lock:
            self.recording.append(pcm)

    def sound_out(self, heard_at: float, pcm: bytes) -> None:
        """Put a period into the air, where the echo path picks it up."""
        if self.echo is None:
            return
        sound, start = np.frombuffer(pcm, np.int16), self._place(heard_at)
        self._air[start : start + PERIOD_SAMPLES] = sound
        if start > AIR - PERIOD_SAMPLES:
            self._air[: start + PERIOD_SAMPLES - AIR] = sound[AIR - start :]
        elif start < PERIOD_SAMPLES:
            self._air[AIR + start :] = sound[: PERIOD_SAMPLES - start]

    def _place(self, at: float) -> int:
        return round((at - self._air_start) * SAMPLE_RATE) % AIR

    def echo_at(self, captured_at: float) -> npt.NDArray[np.float32]:
        """Return what of the loudspeaker reaches the microphone in the period captured at this time."""
        out = np.zeros(PERIOD_SAMPLES, np.float32)
        if self.echo is None:
            return out
        for number, tap in enumerate(self.echo.taps):
            if tap:
                start = self._place(captured_at - self.echo.delay_ms * 1e-3 - number * TAP_S)
                out += self._air[start : start + PERIOD_SAMPLES] * np.float32(tap * self.echo.gain)
        return out


class _VirtualCapture(CaptureStream):
    def __init__(self, card: VirtualCard) -> None:
        self._card = card
        self._open = True
        self._source = card.source.tobytes()
        self._start = time.monotonic()
        self._position = 0
        if len(card.capture_marks) < MAX_MARKS:
            card.capture_marks.append(Mark(0, self._start))
        card.count(captures=1)

    @override
    def read(self) -> bytes:
        self._card.check_present()
        ready = self._start + (self._position + PERIOD_SAMPLES) / self._card.capture_rate
        wait = ready - time.monotonic()
        if wait > 0:
            time.sleep(wait)
            self._card.check_present()
        late = round(-wait * self._card.capture_rate)
        if late > CAPTURE_BUFFER or self._card.take_provoked_xrun("capture"):
            # A real card overwrites what nobody read: time goes on without it.
            self._position += max(late, PERIOD_SAMPLES)
            self._card.capture_xruns += 1
            raise XrunError("the microphone's buffer ran over")
        return self._next_period()

    def _next_period(self) -> bytes:
        first = self._position
        self._position += PERIOD_SAMPLES
        said = self._said(first)
        if self._card.echo is None:
            return said
        echo = self._card.echo_at(self._start + first / self._card.capture_rate)
        echo += np.frombuffer(said, np.int16)
        return np.clip(echo, -32768, 32767, out=echo).astype(np.int16).tobytes()

    def _said(self, first: int) -> bytes:
        """Return a period of the source by slicing bytes: this double shall not cost more than a card."""
        source = self._source
        if not self._card.loop:
            return source[first * 2 : first * 2 + PERIOD_BYTES].ljust(PERIOD_BYTES, b"\0")
        start = first * 2 % len(source)
        said = source[start : start + PERIOD_BYTES]
        while len(said) < PERIOD_BYTES:
            said += source[: PERIOD_BYTES - len(said)]
        return said

    @override
    def close(self) -> None:
        if self._open:
            self._open = False
            self._card.count(captures=-1)


class _VirtualPlayback(PlaybackStream):
    def __init__(self, card: VirtualCard) -> None:
        self._card = card
        self._open = True
        self.periods = card.playback_periods
        self._buffer = card.playback_periods * PERIOD_SAMPLES
        self._start = time.monotonic()
        self._written = 0
        card.recording.mark(self._start)
        card.count(playbacks=1)
        self._fill()

    def _fill(self) -> None:
        """Put silence into the card's buffer, as a card is started with; less than full would underrun."""
        self._written += self._buffer
        self._card.record(bytes(2 * self._buffer))

    def _played(self) -> int:
        return int((time.monotonic() - self._start) * self._card.playback_rate)

    @override
    def write(self, pcm: bytes) -> None:
        if len(pcm) != PERIOD_BYTES:
            raise ValueError(f"{len(pcm)} bytes are not a period")
        self._card.check_present()
        missing = self._played() - self._written
        if missing > 0 or self._card.take_provoked_xrun("playback"):
            self._underrun(missing)
            raise XrunError("the loudspeaker ran dry")
        room_at = self._start + (self._written + PERIOD_SAMPLES - self._buffer) / self._card.playback_rate
        wait = room_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)
            self._card.check_present()
        self._card.sound_out(self._start + self._written / self._card.playback_rate, pcm)
        self._card.record(pcm)
        self._written += PERIOD_SAMPLES

    def _underrun(self, missing: int) -> None:
        self._card.playback_xruns += 1
        if missing > MAX_SILENCE:
            self._start, self._written = time.monotonic(), 0
            self._card.recording.mark(self._start)
        elif missing > 0:
            self._card.record(bytes(2 * missing))
            self._written += missing
        self._fill()

    @override
    def close(self) -> None:
        if self._open:
            self._open = False
            self._card.count(playbacks=-1)


def _load(source: Samples | str | Path | None) -> Samples:
    """Return the samples a source names; silence for None."""
    if source is None:
        return np.zeros(SAMPLE_RATE, np.int16)
    if isinstance(source, np.ndarray):
        return source if len(source) else np.zeros(SAMPLE_RATE, np.int16)
    if str(source) == SPEECH:
        return speech_like(SPEECH_S)
    samples = read_wav(source)
    return samples if len(samples) else np.zeros(SAMPLE_RATE, np.int16)
