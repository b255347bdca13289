"""The signs a person gets: what the lamp shows and what the loudspeaker says.

One rule: no sign claims what is not so. The call machine names signs; `panel/lamp.py` turns a `Lamp`
into light over time and `audio/tones.py` turns a `Tone` into samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType


class Lamp(Enum):
    """What the lamp shows; the value is the word logs and status use."""

    OFF = "off"
    READY = "ready"  # idle, backend reachable: short flash every 2 s
    WAITING = "waiting"  # idle, backend not reachable: two short flashes every 3 s
    SEEKING = "seeking"  # looking for somebody: slow pulse
    RINGING = "ringing"  # somebody calls, or the other side really rings: double flash
    CONNECTING = "connecting"  # media being set up: fast pulse
    MICROPHONE_OPEN = "microphone_open"  # capture stream open: steady, bright; nothing else shows this
    DOOR_OPEN = "door_open"  # the same, and the door is open: bright with short breaks
    ANNOUNCEMENT = "announcement"  # a desk speaks here, the microphone is closed
    RECONNECTING = "reconnecting"  # path lost in a call: fast flash, microphone closed or unheard
    REPORT_WAITING = "report_waiting"  # report held in RAM until the network is back
    REPORT_SENT = "report_sent"  # receipt here
    REPORT_FAILED = "report_failed"  # refused for good
    DISTRUST = "distrust"  # fingerprint or seal did not hold: three fast, pause
    RESET_COUNT = "reset_count"  # both buttons held: a factory reset is being asked for
    RESET_DONE = "reset_done"  # everything was erased: set the device up again
    ERROR = "error"  # no sound card, wrong settings on the server, refused: slow, even on and off


class Tone(Enum):
    """What the loudspeaker says; made by code, never files."""

    PRESSED = "pressed"  # a button was taken: one short click
    SEEKING = "seeking"  # repeated, soft: still looking
    RINGBACK = "ringback"  # repeated: the other side really rings (only after its `ring`)
    INCOMING = "incoming"  # repeated: somebody calls here
    CONNECTED = "connected"  # rising pair: talk now
    ENDED = "ended"  # falling pair: the call is over
    BUSY = "busy"  # nobody there, pool full, refused
    FAILED = "failed"  # it did not work; try again
    TIME_WARNING = "time_warning"  # the longest call length is near
    PATH_LOST = "path_lost"  # the network went away in a call
    PATH_BACK = "path_back"  # and came back
    REPORT_SENT = "report_sent"
    REPORT_WAITING = "report_waiting"
    REPORT_FAILED = "report_failed"
    DISTRUST = "distrust"  # somebody may be in the middle: harsh, unlike all others
    RESET_COUNT = "reset_count"  # both buttons held, one more second
    RESET_ASKED = "reset_asked"  # and long enough
    RESET_DONE = "reset_done"  # everything was erased
    WORDS_UNAVAILABLE = "words_unavailable"  # check words asked for and not to be had
    ANNOUNCEMENT = "announcement"  # a desk is about to speak; nobody listens
    DOOR_OPEN = "door_open"  # the door can be opened now


class Prompt(Enum):
    """Sentences a visitor must understand; the value is the key below `spoken.` in the catalogue."""

    NOBODY = "nobody"
    NO_ANSWER = "no_answer"
    AWAY = "disturb"
    DECLINED = "declined"
    QUEUED = "waiting"
    DOOR_OPEN = "door_open"
    FAILED = "failed"
    TIME_WARNING = "time_warning"
    PATH_LOST = "path_lost"
    PATH_BACK = "path_back"
    REPORT_SENT = "report_sent"
    REPORT_WAITING = "report_waiting"
    REPORT_FAILED = "report_failed"
    DISTRUST = "distrust"
    WORDS_UNAVAILABLE = "words_unavailable"


SAID_WITH: Mapping[Tone, Prompt] = MappingProxyType(
    {
        Tone.FAILED: Prompt.FAILED,
        Tone.TIME_WARNING: Prompt.TIME_WARNING,
        Tone.PATH_LOST: Prompt.PATH_LOST,
        Tone.PATH_BACK: Prompt.PATH_BACK,
        Tone.REPORT_SENT: Prompt.REPORT_SENT,
        Tone.REPORT_WAITING: Prompt.REPORT_WAITING,
        Tone.REPORT_FAILED: Prompt.REPORT_FAILED,
        Tone.DISTRUST: Prompt.DISTRUST,
        Tone.WORDS_UNAVAILABLE: Prompt.WORDS_UNAVAILABLE,
    }
)
"""Tones that nobody understands who has not read what they mean: a sentence follows each."""
