"""The signs a person gets: what the lamp shows and what the loudspeaker says.

One rule: no sign claims what is not so. The call machine names signs; `panel/lamp.py` turns a `Lamp`
into light over time and `audio/tones.py` turns a `Tone` into samples.
"""

from __future__ import annotations

from enum import Enum


class Lamp(Enum):
    """What the lamp shows; the value is the word logs and status use."""

    OFF = "off"
    READY = "ready"  # idle, backend reachable: steady, dim
    WAITING = "waiting"  # idle, backend not reachable: short flash every 3 s
    SEEKING = "seeking"  # looking for somebody: slow pulse
    RINGING = "ringing"  # somebody calls, or the other side really rings: double flash
    CONNECTING = "connecting"  # media being set up: fast pulse
    MICROPHONE_OPEN = "microphone_open"  # capture stream open: steady, bright; nothing else shows this
    RECONNECTING = "reconnecting"  # path lost in a call: fast flash, microphone closed or unheard
    REPORT_WAITING = "report_waiting"  # report held in RAM until the network is back
    REPORT_SENT = "report_sent"  # receipt here
    REPORT_FAILED = "report_failed"  # refused for good
    DISTRUST = "distrust"  # fingerprint or seal did not hold: three fast, pause
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
    WORDS_UNAVAILABLE = "words_unavailable"  # check words asked for and not to be had
