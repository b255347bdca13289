"""Every tone of `call.signs.Tone` as samples, made by code; one table, one rule: no two sound alike.

tone               notes (Hz, ms)                            then    repeats every
PRESSED            1200 30                                           -
SEEKING            330+440 180, soft                                 2.2 s
RINGBACK           425 1000                                          4.0 s (the European ringing tone)
INCOMING           660 140, 880 140, twice                           2.2 s
CONNECTED          523 90, 784 140 (rising)                          -
ENDED              784 90, 523 140 (falling)                         -
BUSY               425 240, four times                               -
FAILED             330 160, 262 160, 208 320 (falling, slow)         -
TIME_WARNING       1000 90, twice, pause, twice                      -
PATH_LOST          494 100, 370 100                                  -
PATH_BACK          370 100, 494 100                                  -
REPORT_SENT        880 80, 1109 80, 1319 200 (major, up)             -
REPORT_WAITING     880 80, pause, 880 80, pause, 880 80              -
REPORT_FAILED      880 80, 622 300                                   -
DISTRUST           233+247 250 with 1400 120, three times (harsh)    -
RESET_COUNT        1300 60                                           -
RESET_ASKED        1300 600                                          -
RESET_DONE         1300 200, 1040 200, 780 500 (down)                -
WORDS_UNAVAILABLE  300 90, 300 90                                    -
ANNOUNCEMENT       784 220, 659 220, 523 400 (a gong)                -
DOOR_OPEN          1175 60, six times (a buzzing door)               -
"""

from __future__ import annotations

from collections import deque
from functools import cache

import numpy as np
import numpy.typing as npt

from voicemeet_edge.call.signs import Tone
from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.format import PERIOD_SAMPLES, SAMPLE_RATE, Samples

EDGE_MS = 8.0  # ms of raised cosine at both ends of a note: without it every note begins with a click
PEAK_DBFS = -10.0  # dBFS; loud enough for a small speaker, and tone plus speech rarely saturates
SOFT_DB = -12.0  # dB below the others: "still looking" is heard for a minute and must not tire
QUEUE_LIMIT = 4  # tones waiting; more than that is older than what it tells about


@dataclass(frozen=True, slots=True)
class Note:
    """One sound of one or two frequencies; no frequency is a pause."""

    frequencies_hz: tuple[float, ...]
    duration_ms: float
    level_db: float = 0.0


@dataclass(frozen=True, slots=True)
class Melody:
    """What a tone is: its notes, and the pause before it starts again when repeated."""

    notes: tuple[Note, ...]
    pause_ms: float = 2000.0


def _note(duration_ms: float, *frequencies_hz: float, level_db: float = 0.0) -> Note:
    return Note(frequencies_hz, duration_ms, level_db)


def _pause(duration_ms: float) -> Note:
    return Note((), duration_ms)


_RING = (_note(140, 660), _note(140, 880))
_BEEP = (_note(90, 1000), _pause(60))
_ALARM = (_note(250, 233, 247), _note(120, 1400))

MELODIES: dict[Tone, Melody] = {
    Tone.PRESSED: Melody((_note(30, 1200),)),
    Tone.SEEKING: Melody((_note(180, 330, 440, level_db=SOFT_DB),), pause_ms=2020),
    Tone.RINGBACK: Melody((_note(1000, 425),), pause_ms=3000),
    Tone.INCOMING: Melody((*_RING, *_RING), pause_ms=1640),
    Tone.CONNECTED: Melody((_note(90, 523), _note(140, 784))),
    Tone.ENDED: Melody((_note(90, 784), _note(140, 523))),
    Tone.BUSY: Melody((_note(240, 425), _pause(240)) * 4),
    Tone.FAILED: Melody((_note(160, 330), _note(160, 262), _note(320, 208))),
    Tone.TIME_WARNING: Melody((*_BEEP, *_BEEP, _pause(250), *_BEEP, *_BEEP)),
    Tone.PATH_LOST: Melody((_note(100, 494), _note(100, 370))),
    Tone.PATH_BACK: Melody((_note(100, 370), _note(100, 494))),
    Tone.REPORT_SENT: Melody((_note(80, 880), _note(80, 1109), _note(200, 1319))),
    Tone.REPORT_WAITING: Melody((_note(80, 880), _pause(150)) * 3),
    Tone.REPORT_FAILED: Melody((_note(80, 880), _note(300, 622))),
    Tone.DISTRUST: Melody(_ALARM * 3),
    Tone.RESET_COUNT: Melody((_note(60, 1300),)),
    Tone.RESET_ASKED: Melody((_note(600, 1300),)),
    Tone.ANNOUNCEMENT: Melody((_note(220, 784), _note(220, 659), _note(400, 523))),
    Tone.DOOR_OPEN: Melody((_note(60, 1175), _pause(60)) * 6),
    Tone.RESET_DONE: Melody((_note(200, 1300), _note(200, 1040), _note(500, 780))),
    Tone.WORDS_UNAVAILABLE: Melody((_note(90, 300), _pause(90), _note(90, 300))),
}


def _sample_count(duration_ms: float) -> int:
    return round(duration_ms * SAMPLE_RATE / 1000.0)


def _render_note(note: Note) -> npt.NDArray[np.float64]:
    count = _sample_count(note.duration_ms)
    if not note.frequencies_hz:
        return np.zeros(count)
    time_s = np.arange(count) / SAMPLE_RATE
    wave = sum((np.sin(2.0 * np.pi * hz * time_s) for hz in note.frequencies_hz), np.zeros(count))
    wave = wave * (10.0 ** ((PEAK_DBFS + note.level_db) / 20.0) / len(note.frequencies_hz))
    edge = min(_sample_count(EDGE_MS), count // 2)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(edge) + 0.5) / edge)
    wave[:edge] *= ramp
    wave[count - edge :] *= ramp[::-1]
    return np.asarray(wave, np.float64)


@cache  # one entry per Tone, at most a second of sound each: under 1 MB in all
def render(tone: Tone) -> Samples:
    """Return the samples of one tone, 48 kHz, without the pause of its repetition; do not write to it."""
    wave = np.concatenate([_render_note(note) for note in MELODIES[tone].notes])
    samples = np.rint(wave * 32767.0).astype(np.int16)
    samples.setflags(write=False)
    return samples


class TonePlayer:
    """Hand out what is to be heard in 10 ms frames: single tones in turn, then the repeating one.

    A new tone ends the repeating one, for it tells of a new state; only the click of a button does not.
    Not safe between threads: the engine holds its lock around it.
    """

    def __init__(self) -> None:
        self._queue: deque[Samples] = deque(maxlen=QUEUE_LIMIT)
        self._current: Samples | None = None
        self._position = 0
        self._repeating: Tone | None = None
        self._resume_in = 0  # samples until the repeating tone starts again
        self._frame = np.zeros(PERIOD_SAMPLES, np.int16)

    @property
    def active(self) -> bool:
        """Say whether anything is being played or will be."""
        return self._current is not None or bool(self._queue) or self._repeating is not None

    def play(self, tone: Tone, *, repeat: bool = False) -> None:
        """Play `tone` after those already waiting, once or until `stop`."""
        if repeat:
            self._repeating, self._resume_in = tone, 0
            return
        if tone is not Tone.PRESSED:
            self._repeating = None
        self._queue.append(render(tone))

    def play_samples(self, samples: Samples) -> None:
        """Play spoken words or any other 48 kHz sound after the tones already waiting."""
        self._queue.append(samples)

    def stop(self) -> None:
        """Let the tone that sounds come to its soft end and forget the rest."""
        self._queue.clear()
        self._repeating = None

    def next_frame(self) -> Samples | None:
        """Return the next 10 ms (valid until the next call), or None when nothing sounds now."""
        if not self.active:
            return None
        if self._current is None and not self._begin():
            return None
        filled = 0
        while filled < PERIOD_SAMPLES and (self._current is not None or self._begin()):
            filled = self._copy(filled)
        self._frame[filled:] = 0
        return self._frame

    def _begin(self) -> bool:
        """Choose what sounds next; False when it is the pause of the repeating tone, or nothing."""
        if self._queue:
            self._current, self._position = self._queue.popleft(), 0
            return True
        if self._repeating is None:
            return False
        if self._resume_in > 0:
            self._resume_in -= PERIOD_SAMPLES
            return False
        self._current, self._position = render(self._repeating), 0
        self._resume_in = _sample_count(MELODIES[self._repeating].pause_ms)
        return True

    def _copy(self, filled: int) -> int:
        assert self._current is not None
        count = min(PERIOD_SAMPLES - filled, len(self._current) - self._position)
        self._frame[filled : filled + count] = self._current[self._position : self._position + count]
        self._position += count
        if self._position >= len(self._current):
            self._current = None
        return filled + count
