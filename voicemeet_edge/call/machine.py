"""What the device is doing: one table of states, and the signs each state gives.

Rule 1: everything that decides in which state the device is lives here. The machine is told events
and the time; it answers with actions for the app to carry out and names the time it next wants to be
called. It has no clock, no task, no socket. An event the table does not know in a state raises
`IllegalEventError` and changes nothing.

The diagram in docs/architecture.md is drawn from `TABLE` (`python -m voicemeet_edge.call.diagram`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.signs import Lamp, Tone
from voicemeet_edge.errors import IllegalEventError

REPORT_SIGN_S = 6.0  # seconds a report's outcome stays on the lamp: long enough to look twice
FAILED_SIGN_S = 6.0  # seconds the lamp says that a call did not work
DISTRUST_SIGN_S = 10.0  # seconds; must be seen by somebody who is looking at their phone
SETTLE_LIMIT_S = 8.0  # seconds ENDED may last: freeing sockets is bounded well below this
REPEAT_PRESS_S = 0.15  # seconds; a press this soon after the last is a bounce or a nervous finger


class State(Enum):
    """What the device is doing."""

    IDLE = "idle"
    SEEKING = "seeking"
    RINGING = "ringing"
    CONNECTING = "connecting"
    TALKING = "talking"
    RECONNECTING = "reconnecting"
    ENDED = "ended"


class Event(Enum):
    """What can happen to it. Events in capitals with a verb are people's or the world's doing."""

    CALL_PRESSED = "call_pressed"
    CALL_HELD = "call_held"
    REPORT_PRESSED = "report_pressed"
    MATCHED_TALK = "matched_talk"  # both sides pressed call: nobody has to accept
    MATCHED_CALLING = "matched_calling"  # we call: the other side is asked
    MATCHED_CALLED = "matched_called"  # somebody calls us
    PEER_RINGS = "peer_rings"
    PEER_ACCEPTED = "peer_accepted"
    CONNECTED = "connected"
    PATH_LOST = "path_lost"
    PEER_BYE = "peer_bye"
    FAILED = "failed"
    SETTLED = "settled"
    SEARCH_TIMEOUT = "search_timeout"
    RING_TIMEOUT = "ring_timeout"
    CONNECT_TIMEOUT = "connect_timeout"
    RECONNECT_TIMEOUT = "reconnect_timeout"
    TIME_WARNING = "time_warning"
    TIME_LIMIT = "time_limit"


_S, _E = State, Event

TABLE: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        _S.IDLE: {
            _E.CALL_PRESSED: _S.SEEKING,
            _E.CALL_HELD: _S.IDLE,
            _E.REPORT_PRESSED: _S.IDLE,
            _E.MATCHED_CALLED: _S.RINGING,
        },
        _S.SEEKING: {
            _E.CALL_PRESSED: _S.ENDED,
            _E.CALL_HELD: _S.SEEKING,
            _E.REPORT_PRESSED: _S.SEEKING,
            _E.MATCHED_TALK: _S.CONNECTING,
            _E.MATCHED_CALLING: _S.SEEKING,
            _E.PEER_RINGS: _S.SEEKING,
            _E.PEER_ACCEPTED: _S.CONNECTING,
            _E.PEER_BYE: _S.ENDED,
            _E.FAILED: _S.ENDED,
            _E.SEARCH_TIMEOUT: _S.ENDED,
            _E.RING_TIMEOUT: _S.ENDED,
        },
        _S.RINGING: {
            _E.CALL_PRESSED: _S.CONNECTING,
            _E.CALL_HELD: _S.RINGING,
            _E.REPORT_PRESSED: _S.RINGING,
            _E.PEER_BYE: _S.ENDED,
            _E.FAILED: _S.ENDED,
            _E.RING_TIMEOUT: _S.ENDED,
        },
        _S.CONNECTING: {
            _E.CALL_PRESSED: _S.ENDED,
            _E.CALL_HELD: _S.CONNECTING,
            _E.REPORT_PRESSED: _S.ENDED,
            _E.CONNECTED: _S.TALKING,
            _E.PEER_BYE: _S.ENDED,
            _E.FAILED: _S.ENDED,
            _E.CONNECT_TIMEOUT: _S.ENDED,
        },
        _S.TALKING: {
            _E.CALL_PRESSED: _S.ENDED,
            _E.CALL_HELD: _S.TALKING,
            _E.REPORT_PRESSED: _S.ENDED,
            _E.PATH_LOST: _S.RECONNECTING,
            _E.PEER_BYE: _S.ENDED,
            _E.FAILED: _S.ENDED,
            _E.TIME_WARNING: _S.TALKING,
            _E.TIME_LIMIT: _S.ENDED,
        },
        _S.RECONNECTING: {
            _E.CALL_PRESSED: _S.ENDED,
            _E.CALL_HELD: _S.RECONNECTING,
            _E.REPORT_PRESSED: _S.ENDED,
            _E.CONNECTED: _S.TALKING,
            _E.PEER_BYE: _S.ENDED,
            _E.FAILED: _S.ENDED,
            _E.RECONNECT_TIMEOUT: _S.ENDED,
            _E.TIME_WARNING: _S.RECONNECTING,
            _E.TIME_LIMIT: _S.ENDED,
        },
        _S.ENDED: {
            _E.CALL_PRESSED: _S.ENDED,
            _E.CALL_HELD: _S.ENDED,
            _E.REPORT_PRESSED: _S.ENDED,
            _E.SETTLED: _S.IDLE,
        },
    }
)

IN_CALL = frozenset({State.CONNECTING, State.TALKING, State.RECONNECTING})


class ReportState(Enum):
    """What became of the last report."""

    NONE = "none"
    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True)
class Rules:
    """The times and the role the machine plays by; all in seconds."""

    role: Role = Role.EITHER
    search_timeout_s: float = 300.0
    ring_timeout_s: float = 45.0
    connect_timeout_s: float = 15.0
    reconnect_timeout_s: float = 20.0
    max_call_s: float = 3600.0
    warn_before_end_s: float = 60.0
    report_window_s: float = 30.0


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

    reason: str


@dataclass(frozen=True)
class StartAudio:
    """Open microphone and loudspeaker for the call."""


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
    | StopAudio
    | FileReport
    | SpeakWords
    | Play
    | StopTone
    | Show
)

# Reasons that say: somebody may sit in the middle. They get a lamp and a tone of their own.
DISTRUST_REASONS = frozenset(
    {
        "fingerprint_mismatch",
        "fingerprint_changed",
        "certificate_refused",
        "no_fingerprint",
        "bad_fingerprint",
        "no_encryption",
        "not_encrypted",
        "peer_not_sealed",
        "peer_sealed",
        "bad_seal",
        "seal_broken",
        "wrong_key",
        "bad_commitment",
        "words_changed",
        "words_order",
    }
)
# Reasons that say: nobody is there just now; not a fault of the device.
BUSY_REASONS = frozenset(
    {"nobody", "no_answer", "pool_full", "declined", "busy", "rate_limited", "refused_risk"}
)
_QUIET_REASONS = frozenset({"cancelled"})
_CALM_REASONS = frozenset({"hung_up", "peer_hung_up", "time_limit", "reported", "shutdown"})

_TIMEOUT_REASON = {
    Event.SEARCH_TIMEOUT: "nobody",
    Event.RING_TIMEOUT: "no_answer",
    Event.CONNECT_TIMEOUT: "connect_timeout",
    Event.RECONNECT_TIMEOUT: "path_lost",
    Event.TIME_LIMIT: "time_limit",
}


def end_tone(reason: str) -> Tone | None:
    """The tone for the end of a call; None where the person did it and needs no telling."""
    if reason in _QUIET_REASONS:
        return None
    if reason in DISTRUST_REASONS:
        return Tone.DISTRUST
    if reason in BUSY_REASONS:
        return Tone.BUSY
    if reason in _CALM_REASONS:
        return Tone.ENDED
    return Tone.FAILED


class CallMachine:
    """The call machine; see the module's docstring."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.state = State.IDLE
        self.end_reason: str | None = None
        self.talked_since: float | None = None
        self._timers: dict[Event, float] = {}
        self._settle_by: float | None = None
        self._redial = False
        self._last_press = float("-inf")
        self._reportable_until = float("-inf")
        self._peer_rings = False
        self._capture_open = False
        self._backend_up = False
        self._fault: str | None = None
        self._report = ReportState.NONE
        self._report_sign_until = float("-inf")
        self._distrust_until = float("-inf")
        self._failed_until = float("-inf")
        self._shown: Lamp | None = None
        self._limit_s = rules.max_call_s

    # -- what the app asks -------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """The time (seconds, monotonic) at which `handle_timer` wants to be called; None: never."""
        times = list(self._timers.values())
        if self._settle_by is not None:
            times.append(self._settle_by)
        signs = (self._report_sign_until, self._distrust_until, self._failed_until)
        times.extend(until for until in signs if until > 0)
        return min(times, default=None)

    @property
    def lamp(self) -> Lamp:
        """What the lamp must show: an open microphone outshines everything."""
        if self._capture_open:
            return Lamp.MICROPHONE_OPEN
        if self._distrust_until > 0:
            return Lamp.DISTRUST
        if self.state is State.SEEKING:
            return Lamp.RINGING if self._peer_rings else Lamp.SEEKING
        if self.state is State.RINGING:
            return Lamp.RINGING
        if self.state in (State.CONNECTING, State.TALKING):
            return Lamp.CONNECTING  # talking without an open microphone is not talking yet
        if self.state is State.RECONNECTING:
            return Lamp.RECONNECTING
        return self._idle_lamp()

    def _idle_lamp(self) -> Lamp:
        if self._report is ReportState.WAITING:
            return Lamp.REPORT_WAITING
        if self._report_sign_until > 0:
            return Lamp.REPORT_SENT if self._report is ReportState.SENT else Lamp.REPORT_FAILED
        if self._fault is not None or self._failed_until > 0:
            return Lamp.ERROR
        return Lamp.READY if self._backend_up else Lamp.WAITING

    # -- what the app tells ------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Begin in IDLE: the first signs, and standing by for an answerer."""
        actions: list[Action] = [StandBy()] if self.rules.role is Role.ANSWERER else []
        return self._with_lamp(actions)

    def handle(self, event: Event, now: float, reason: str = "") -> list[Action]:
        """Take one event; `reason` is the code that came with PEER_BYE or FAILED.

        Raises:
            IllegalEventError: not in the table for this state; nothing was changed.
        """
        row = TABLE[self.state]
        if event not in row:
            raise IllegalEventError(f"{event.value} in {self.state.value}")
        if event is Event.CALL_PRESSED:
            if now - self._last_press < REPEAT_PRESS_S:
                return []
            self._last_press = now
        target = row[event]
        if event is Event.CALL_PRESSED and self.state is State.IDLE and self.rules.role is Role.ANSWERER:
            # An answerer cannot call anybody: say so instead of pretending to search.
            return [Play(Tone.BUSY)]
        if event is Event.FAILED and not reason:
            reason = "failed"
        before = self.state
        self.state = target
        actions = self._act(before, event, now, reason)
        return self._with_lamp(actions)

    def set_call_limit(self, max_call_s: float) -> None:
        """Use the server's limit for the matched call where it is shorter than our own."""
        self._limit_s = min(self.rules.max_call_s, max_call_s)

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due at `now`; harmless when nothing is."""
        actions: list[Action] = []
        for event, due in sorted(self._timers.items(), key=lambda item: item[1]):
            if due <= now and self._timers.get(event) == due:
                del self._timers[event]
                if event in TABLE[self.state]:
                    actions += self.handle(event, now)
        if self._settle_by is not None and self._settle_by <= now:
            actions += self.handle(Event.SETTLED, now)
        if 0 < self._report_sign_until <= now:
            self._report_sign_until = float("-inf")
            self._report = ReportState.NONE
        if 0 < self._distrust_until <= now:
            self._distrust_until = float("-inf")
        if 0 < self._failed_until <= now:
            self._failed_until = float("-inf")
        return self._with_lamp(actions)

    def capture_changed(self, is_open: bool) -> list[Action]:
        """The capture stream opened or closed: the only thing the microphone lamp listens to."""
        self._capture_open = is_open
        return self._with_lamp([])

    def backend_changed(self, is_up: bool) -> list[Action]:
        """The signaling socket came up or went down."""
        self._backend_up = is_up
        return self._with_lamp([])

    def fault_changed(self, code: str | None) -> list[Action]:
        """Something on this box is broken (no sound card, settings refused), or mended: None."""
        self._fault = code
        return self._with_lamp([])

    def report_changed(self, report: ReportState, now: float) -> list[Action]:
        """A report was sent, refused, or has to wait for the network."""
        if report is self._report and report is ReportState.WAITING:
            return []
        self._report = report
        tones = {
            ReportState.SENT: Tone.REPORT_SENT,
            ReportState.WAITING: Tone.REPORT_WAITING,
            ReportState.FAILED: Tone.REPORT_FAILED,
        }
        if report in (ReportState.SENT, ReportState.FAILED):
            self._report_sign_until = now + REPORT_SIGN_S
        actions: list[Action] = []
        if report in tones and self.state in (State.IDLE, State.ENDED):
            actions.append(Play(tones[report]))
        return self._with_lamp(actions)

    # -- what follows ------------------------------------------------------------------------

    def _with_lamp(self, actions: list[Action]) -> list[Action]:
        lamp = self.lamp
        if lamp is not self._shown:
            self._shown = lamp
            actions.append(Show(lamp))
        return actions

    def _act(self, before: State, event: Event, now: float, reason: str) -> list[Action]:
        if event is Event.REPORT_PRESSED:
            return self._report_pressed(before, now)
        if event is Event.CALL_HELD:
            return [SpeakWords()] if before is State.TALKING else []
        if self.state is State.ENDED:
            if before is State.ENDED:  # pressed while the last call is being cleared away
                self._redial = self.rules.role is not Role.ANSWERER
                return [Play(Tone.PRESSED)]
            return self._end(before, now, self._reason(before, event, reason))
        if self.state is before:
            return self._within(event, now)
        return self._enter(before, now)

    def _reason(self, before: State, event: Event, reason: str) -> str:
        if event is Event.CALL_PRESSED:
            return "cancelled" if before is State.SEEKING else "hung_up"
        if event is Event.PEER_BYE:
            return (
                "peer_hung_up" if reason in ("", "hung_up", "cancelled", "reported", "shutdown") else reason
            )
        return _TIMEOUT_REASON.get(event, reason)

    def _within(self, event: Event, now: float) -> list[Action]:
        if event is Event.MATCHED_CALLING:
            self._timers.pop(Event.SEARCH_TIMEOUT, None)
            self._timers[Event.RING_TIMEOUT] = now + self.rules.ring_timeout_s
            return []
        if event is Event.PEER_RINGS and not self._peer_rings:
            self._peer_rings = True
            return [Play(Tone.RINGBACK, repeat=True)]
        if event is Event.TIME_WARNING:
            return [Play(Tone.TIME_WARNING)]
        return []

    def _enter(self, before: State, now: float) -> list[Action]:
        rules = self.rules
        match self.state:
            case State.SEEKING:
                return self._seek(now)
            case State.RINGING:
                self._timers = {Event.RING_TIMEOUT: now + rules.ring_timeout_s}
                return [Play(Tone.INCOMING, repeat=True)]
            case State.CONNECTING:
                self._timers = {Event.CONNECT_TIMEOUT: now + rules.connect_timeout_s}
                actions: list[Action] = [StopTone()]
                return [*actions, Accept()] if before is State.RINGING else actions
            case State.TALKING:
                return self._talk(before, now)
            case State.RECONNECTING:
                self._timers[Event.RECONNECT_TIMEOUT] = now + rules.reconnect_timeout_s
                return [StopAudio(), Play(Tone.PATH_LOST)]
            case State.IDLE:
                return self._rest(now)
            case _:  # ENDED is handled by _end
                return []

    def _seek(self, now: float) -> list[Action]:
        self.end_reason = None
        self._redial = False
        self._peer_rings = False
        self._failed_until = float("-inf")
        self._timers = {Event.SEARCH_TIMEOUT: now + self.rules.search_timeout_s}
        return [Play(Tone.SEEKING, repeat=True), Seek()]

    def _talk(self, before: State, now: float) -> list[Action]:
        self._timers.pop(Event.CONNECT_TIMEOUT, None)
        self._timers.pop(Event.RECONNECT_TIMEOUT, None)
        if before is State.RECONNECTING:
            return [Play(Tone.PATH_BACK), StartAudio()]
        self.talked_since = now
        limit = self._limit_s
        self._timers[Event.TIME_LIMIT] = now + limit
        if self.rules.warn_before_end_s < limit:
            self._timers[Event.TIME_WARNING] = now + limit - self.rules.warn_before_end_s
        return [Play(Tone.CONNECTED), StartAudio()]

    def _rest(self, now: float) -> list[Action]:
        self._settle_by = None
        self._timers = {}
        if self._redial:
            self.state = State.SEEKING
            return self._seek(now)
        return [StandBy()] if self.rules.role is Role.ANSWERER else []

    def _end(self, before: State, now: float, reason: str) -> list[Action]:
        self.end_reason = reason
        self._timers = {}
        self._peer_rings = False
        self.talked_since = None
        self._limit_s = self.rules.max_call_s
        self._settle_by = now + SETTLE_LIMIT_S
        if before in IN_CALL:
            self._reportable_until = now + self.rules.report_window_s
        if reason in DISTRUST_REASONS:
            self._distrust_until = now + DISTRUST_SIGN_S
        # The microphone closes first: nothing said after the end may be captured.
        actions: list[Action] = [StopAudio(), StopTone()]
        tone = end_tone(reason)
        if tone is Tone.FAILED:
            self._failed_until = now + FAILED_SIGN_S
        if tone is not None:
            actions.append(Play(tone))
        actions.append(Hangup(reason))
        return actions

    def _report_pressed(self, before: State, now: float) -> list[Action]:
        if before in IN_CALL:
            actions: list[Action] = [FileReport()]
            return actions + self._end(before, now, "reported")
        if now <= self._reportable_until:
            self._reportable_until = float("-inf")
            return [FileReport()]
        # There is no call to report: a click would claim something was filed.
        return [Play(Tone.REPORT_FAILED)] if before in (State.IDLE, State.ENDED) else []
