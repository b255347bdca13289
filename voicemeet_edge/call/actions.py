"""What the call machine asks the device to do, one value each; `app.py` does it."""

from __future__ import annotations

from voicemeet_edge.call.signs import Lamp, Prompt, Tone
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.records import dataclass


@dataclass(frozen=True)
class Seek:
    """Look for the other party."""


@dataclass(frozen=True)
class StandBy:
    """Be there for callers: an answerer waits in its pool while idle."""


@dataclass(frozen=True)
class Accept:
    """Tell the caller yes."""


@dataclass(frozen=True)
class Hangup:
    """Leave search and call, free everything, then tell `SETTLED`; `reason` goes into `bye`."""

    reason: EndReason


@dataclass(frozen=True)
class StartAudio:
    """Open microphone and loudspeaker for the call."""


@dataclass(frozen=True)
class StartListening:
    """Open the loudspeaker for the call, and not the microphone."""


@dataclass(frozen=True)
class StopAudio:
    """Close the microphone now."""


@dataclass(frozen=True)
class FileReport:
    """Report the current call, or the last one."""


@dataclass(frozen=True)
class SpeakWords:
    """Say the check words."""


@dataclass(frozen=True)
class Say:
    """Say this sentence aloud; `place` belongs into the one that asks for it."""

    prompt: Prompt
    place: int = 0


@dataclass(frozen=True)
class Play:
    """Play a tone, again and again if `repeat`; a new tone replaces a repeating one."""

    tone: Tone
    repeat: bool = False


@dataclass(frozen=True)
class StopTone:
    """Stop a repeating tone."""


@dataclass(frozen=True)
class Show:
    """Show this on the lamp."""

    lamp: Lamp


Action = (
    Seek
    | StandBy
    | Accept
    | Hangup
    | StartAudio
    | StartListening
    | StopAudio
    | FileReport
    | SpeakWords
    | Say
    | Play
    | StopTone
    | Show
)
