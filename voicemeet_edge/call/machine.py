"""What the device is doing: one table of states, and the signs each state gives.

Rule 1: everything that decides in which state the device is lives here. The machine is told events
and the time; it answers with actions for the app to carry out and names the time it next wants to be
called. It has no clock, no task, no socket. An event the table does not know in a state raises
`IllegalEventError` and changes nothing.

What the table cannot show, all of it in `CallMachine._meaning` and `handle`:

- SETTLED means REDIAL once call was pressed in ENDED, before the last call was cleared away.
- CALL_PRESSED in IDLE means CALL_IMPOSSIBLE where the device answers and cannot call.
- An announcement opens no microphone: LISTENING starts playback alone, and no event leads from it to TALKING.
- A CALL_PRESSED within 0.15 s of the last one is a bounce: nothing happens.

The diagram in docs/architecture.md is drawn from `TABLE` (`python -m voicemeet_edge.call.diagram`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.actions import (
    Accept,
    Action,
    FileReport,
    Hangup,
    Play,
    Say,
    Seek,
    Show,
    SpeakWords,
    StandBy,
    StartAudio,
    StartListening,
    StopAudio,
    StopTone,
)
from voicemeet_edge.call.signs import Lamp, Prompt, Tone
from voicemeet_edge.errors import IllegalEventError
from voicemeet_edge.reasons import EndReason, ReasonKind
from voicemeet_edge.settings import CallSettings

REPORT_SIGN_S = 6.0  # s a report's outcome stays on the lamp: long enough to look twice
FAILED_SIGN_S = 6.0  # s the lamp says that a call did not work
DISTRUST_SIGN_S = 10.0  # s; must be seen by somebody who is looking at their phone
ANNOUNCEMENT_S = 120.0  # s a desk may speak at a door where nobody has to have agreed
SETTLE_LIMIT_S = 8.0  # s ENDED may last: freeing sockets is bounded well below this
REPEAT_PRESS_S = 0.15  # s; a press this soon after the last is a bounce or a nervous finger


class State(Enum):
    """What the device is doing."""

    IDLE = "idle"
    SEEKING = "seeking"
    RINGING = "ringing"
    LISTENING = "listening"
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
    MATCHED_ANNOUNCED = "matched_announced"  # a desk says something here, and hears nothing
    PEER_RINGS = "peer_rings"
    PEER_ACCEPTED = "peer_accepted"
    PEER_LOST = "peer_lost"  # who took the call is gone before a word was said: the others are rung again
    CONNECTED = "connected"
    PATH_LOST = "path_lost"
    PEER_BYE = "peer_bye"
    FAILED = "failed"
    SETTLED = "settled"  # the last call, or a search nobody knew of, is cleared away
    REDIAL = "redial"  # so it is, and call was pressed meanwhile
    CALL_IMPOSSIBLE = "call_impossible"  # call was pressed where nobody can be called from
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
            _E.MATCHED_ANNOUNCED: _S.LISTENING,
            _E.CALL_IMPOSSIBLE: _S.IDLE,
            _E.SETTLED: _S.IDLE,  # nobody here had to know of that call: stand by again
        },
        _S.SEEKING: {
            _E.CALL_PRESSED: _S.ENDED,
            _E.CALL_HELD: _S.SEEKING,
            _E.REPORT_PRESSED: _S.SEEKING,
            _E.MATCHED_TALK: _S.CONNECTING,
            _E.MATCHED_CALLING: _S.SEEKING,
            _E.PEER_RINGS: _S.SEEKING,
            _E.PEER_ACCEPTED: _S.CONNECTING,
            _E.PEER_LOST: _S.SEEKING,
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
        _S.LISTENING: {
            _E.CALL_PRESSED: _S.ENDED,
            _E.CALL_HELD: _S.LISTENING,
            _E.REPORT_PRESSED: _S.ENDED,
            _E.CONNECTED: _S.LISTENING,
            _E.PATH_LOST: _S.LISTENING,
            _E.PEER_BYE: _S.ENDED,
            _E.FAILED: _S.ENDED,
            _E.CONNECT_TIMEOUT: _S.ENDED,
            _E.TIME_LIMIT: _S.ENDED,
        },
        _S.CONNECTING: {
            _E.CALL_PRESSED: _S.ENDED,
            _E.CALL_HELD: _S.CONNECTING,
            _E.REPORT_PRESSED: _S.ENDED,
            _E.CONNECTED: _S.TALKING,
            _E.PEER_LOST: _S.SEEKING,
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
            _E.REDIAL: _S.SEEKING,
        },
    }
)

IN_CALL = frozenset({State.LISTENING, State.CONNECTING, State.TALKING, State.RECONNECTING})


class ReportState(Enum):
    """What became of the last report."""

    NONE = "none"
    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


class Sign(Enum):
    """What the lamp shows for a while after something has ended, whatever the state."""

    REPORT = "report"  # what became of it
    DISTRUST = "distrust"
    FAILED = "failed"
    DOOR = "door"  # it is open


_TIMEOUT_REASON = {
    Event.SEARCH_TIMEOUT: EndReason.NOBODY,
    Event.RING_TIMEOUT: EndReason.NO_ANSWER,
    Event.CONNECT_TIMEOUT: EndReason.CONNECT_TIMEOUT,
    Event.RECONNECT_TIMEOUT: EndReason.PATH_LOST,
    Event.TIME_LIMIT: EndReason.TIME_LIMIT,
}
# What the other side says when its person, or its device in good order, ends a call.
_PEER_ENDED = frozenset({EndReason.HUNG_UP, EndReason.CANCELLED, EndReason.REPORTED, EndReason.SHUTDOWN})

# What a visitor is told in words, because nobody will come.
_TOLD: Mapping[EndReason, Prompt] = MappingProxyType(
    {
        EndReason.NOBODY: Prompt.NOBODY,
        EndReason.NO_ANSWER: Prompt.NO_ANSWER,
        EndReason.AWAY: Prompt.AWAY,
        EndReason.DECLINED: Prompt.DECLINED,
    }
)

_END_TONES: Mapping[ReasonKind, Tone | None] = MappingProxyType(
    {
        ReasonKind.QUIET: None,
        ReasonKind.CALM: Tone.ENDED,
        ReasonKind.BUSY: Tone.BUSY,
        ReasonKind.DISTRUST: Tone.DISTRUST,
        ReasonKind.FAILED: Tone.FAILED,
    }
)


def end_tone(reason: EndReason) -> Tone | None:
    """The tone for the end of a call; None where the person did it and needs no telling."""
    return _END_TONES[reason.kind]


class CallMachine:
    """The call machine; see the module's docstring."""

    def __init__(self, rules: CallSettings) -> None:
        self.rules = rules
        self.state = State.IDLE
        self.end_reason: EndReason | None = None
        self._timers: dict[Event | Sign, float] = {}  # when an event falls due, or a sign ends
        self._redial = False
        self._last_press = float("-inf")
        self._reportable_until = float("-inf")
        self._peer_rings = False
        self._was_queued = False  # told that all desks are busy: then it is not so that nobody is there
        self._capture_open = False
        self._backend_up = False
        self._fault: str | None = None
        self._report = ReportState.NONE
        self._shown: Lamp | None = None
        self._limit_s = rules.max_call_s

    # -- what the app asks -------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """The time (seconds, monotonic) at which `handle_timer` wants to be called; None: never."""
        return min(self._timers.values(), default=None)

    @property
    def lamp(self) -> Lamp:
        """What the lamp must show: an open microphone outshines everything."""
        if self._capture_open:
            # The one sign that says so too; without an open microphone it would be a lie.
            return Lamp.DOOR_OPEN if Sign.DOOR in self._timers else Lamp.MICROPHONE_OPEN
        if Sign.DISTRUST in self._timers:
            return Lamp.DISTRUST
        if self.state is State.SEEKING:
            return Lamp.RINGING if self._peer_rings else Lamp.SEEKING
        if self.state is State.RINGING:
            return Lamp.RINGING
        if self.state is State.LISTENING:
            return Lamp.ANNOUNCEMENT
        if self.state in (State.CONNECTING, State.TALKING):
            return Lamp.CONNECTING  # talking without an open microphone is not talking yet
        if self.state is State.RECONNECTING:
            return Lamp.RECONNECTING
        return self._idle_lamp()

    def _idle_lamp(self) -> Lamp:
        if self._report is ReportState.WAITING:
            return Lamp.REPORT_WAITING
        if Sign.REPORT in self._timers:
            return Lamp.REPORT_SENT if self._report is ReportState.SENT else Lamp.REPORT_FAILED
        if self._fault is not None or Sign.FAILED in self._timers:
            return Lamp.ERROR
        return Lamp.READY if self._backend_up else Lamp.WAITING

    # -- what the app tells ------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Begin in IDLE: the first signs, and standing by for an answerer."""
        return self._with_lamp(self._stand_by())

    def handle(self, event: Event, now: float, reason: EndReason = EndReason.FAILED) -> list[Action]:
        """Take one event; `reason` is what came with PEER_BYE or FAILED.

        Raises:
            IllegalEventError: not in the table for this state; nothing was changed.
        """
        row = TABLE[self.state]
        if event not in row:
            raise IllegalEventError(f"{event.value} in {self.state.value}")
        event = self._meaning(event)
        if event in (Event.CALL_PRESSED, Event.CALL_IMPOSSIBLE):
            if now - self._last_press < REPEAT_PRESS_S:
                return []
            self._last_press = now
        before, self.state = self.state, row[event]
        actions = self._actions_of(before, event, now, reason)
        return self._with_lamp(actions)

    def _meaning(self, event: Event) -> Event:
        """Return the row an event falls in on this device just now."""
        if event is Event.SETTLED and self._redial:
            return Event.REDIAL
        if event is Event.CALL_PRESSED and self.state is State.IDLE and self.rules.role is Role.ANSWERER:
            return Event.CALL_IMPOSSIBLE
        return event

    def set_call_limit(self, max_call_s: float) -> None:
        """Use the server's limit for the matched call where it is shorter than our own."""
        self._limit_s = min(self.rules.max_call_s, max_call_s)

    def handle_timer(self, now: float) -> list[Action]:
        """Do what is due at `now`; harmless when nothing is."""
        actions: list[Action] = []
        for timer, due in sorted(self._timers.items(), key=lambda item: item[1]):
            if due > now or self._timers.get(timer) != due:
                continue  # not yet, or taken away by what came before it
            del self._timers[timer]
            if timer is Sign.REPORT:
                self._report = ReportState.NONE
            if isinstance(timer, Event) and timer in TABLE[self.state]:
                actions += self.handle(timer, now)
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

    def door_opened(self, open_s: float, now: float) -> list[Action]:
        """The lock was switched for so long: shown and heard at the door."""
        self._timers[Sign.DOOR] = now + open_s
        return self._with_lamp([Play(Tone.DOOR_OPEN), Say(Prompt.DOOR_OPEN)])

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
            self._timers[Sign.REPORT] = now + REPORT_SIGN_S
        else:
            self._timers.pop(Sign.REPORT, None)  # the last one's end is not this one's
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

    def _actions_of(self, before: State, event: Event, now: float, reason: EndReason) -> list[Action]:
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

    def _reason(self, before: State, event: Event, reason: EndReason) -> EndReason:
        if event is Event.CALL_PRESSED:
            return EndReason.CANCELLED if before is State.SEEKING else EndReason.HUNG_UP
        if event is Event.PEER_BYE:
            return EndReason.PEER_HUNG_UP if reason in _PEER_ENDED else reason
        if event is Event.SEARCH_TIMEOUT and self._was_queued:
            return EndReason.NO_ANSWER
        return _TIMEOUT_REASON.get(event, reason)

    def _within(self, event: Event, now: float) -> list[Action]:
        if event is Event.MATCHED_CALLING:
            self._wait_for(Event.RING_TIMEOUT, now + self.rules.ring_timeout_s)
            return []
        if event is Event.CONNECTED:  # in LISTENING; in all other states it leads on
            self._wait_for(Event.TIME_LIMIT, now + min(self._limit_s, ANNOUNCEMENT_S))
            return [StartListening()]
        if event is Event.CALL_IMPOSSIBLE:
            return [Play(Tone.BUSY)]  # said instead of pretending to search
        if event is Event.PEER_RINGS and not self._peer_rings:
            self._peer_rings = True
            return [Play(Tone.RINGBACK, repeat=True)]
        if event is Event.PEER_LOST and self._peer_rings:  # no desk rings any more; others may
            self._peer_rings = False
            return [Play(Tone.SEEKING, repeat=True)]
        if event is Event.TIME_WARNING:
            return [Play(Tone.TIME_WARNING)]
        if event is Event.SETTLED:
            return self._stand_by()
        return []

    def _enter(self, before: State, now: float) -> list[Action]:
        rules = self.rules
        match self.state:
            case State.SEEKING if before is State.CONNECTING:
                return self._seek_on(now)
            case State.SEEKING:
                return self._seek(now)
            case State.LISTENING:
                self._wait_for(Event.CONNECT_TIMEOUT, now + rules.connect_timeout_s)
                return [Play(Tone.ANNOUNCEMENT), Accept()]
            case State.RINGING:
                self._wait_for(Event.RING_TIMEOUT, now + rules.ring_timeout_s)
                return [Play(Tone.INCOMING, repeat=True)]
            case State.CONNECTING:
                self._wait_for(Event.CONNECT_TIMEOUT, now + rules.connect_timeout_s)
                actions: list[Action] = [StopTone()]
                return [*actions, Accept()] if before is State.RINGING else actions
            case State.TALKING:
                return self._talk(before, now)
            case State.RECONNECTING:
                self._timers[Event.RECONNECT_TIMEOUT] = now + rules.reconnect_timeout_s
                return [StopAudio(), Play(Tone.PATH_LOST)]
            case State.IDLE:
                return self._become_idle(now)
            case _:  # ENDED is handled by _end
                return []

    def _seek(self, now: float) -> list[Action]:
        self.end_reason = None
        self._redial = False
        self._peer_rings = self._was_queued = False
        self._timers.pop(Sign.FAILED, None)
        self._wait_for(Event.SEARCH_TIMEOUT, now + self.rules.search_timeout_s)
        return [Play(Tone.SEEKING, repeat=True), Seek()]

    def _seek_on(self, now: float) -> list[Action]:
        """Who answered is gone. The ring goes on by itself; for the ear the search begins anew."""
        self._peer_rings = False
        self._wait_for(Event.SEARCH_TIMEOUT, now + self.rules.search_timeout_s)
        return [Play(Tone.SEEKING, repeat=True)]

    def queued(self, place: int) -> list[Action]:
        """All desks are busy: tell the visitor that he waits, and in which place."""
        if self.state is not State.SEEKING:
            return []
        self._was_queued = True
        return [Say(Prompt.QUEUED, place)]

    def _talk(self, before: State, now: float) -> list[Action]:
        if before is State.RECONNECTING:
            self._timers.pop(Event.RECONNECT_TIMEOUT, None)
            return [Play(Tone.PATH_BACK), StartAudio()]
        limit = self._limit_s
        self._wait_for(Event.TIME_LIMIT, now + limit)
        if self.rules.warn_before_end_s < limit:
            self._timers[Event.TIME_WARNING] = now + limit - self.rules.warn_before_end_s
        return [Play(Tone.CONNECTED), StartAudio()]

    def _become_idle(self, now: float) -> list[Action]:
        self._wait_for(None, now)
        return self._stand_by()

    def _stand_by(self) -> list[Action]:
        return [StandBy()] if self.rules.role is Role.ANSWERER else []

    def _wait_for(self, event: Event | None, at: float) -> None:
        """Let this event fall due, and none of those that the last state waited for; signs stay."""
        self._timers = {timer: due for timer, due in self._timers.items() if isinstance(timer, Sign)}
        if event is not None:
            self._timers[event] = at

    def _end(self, before: State, now: float, reason: EndReason) -> list[Action]:
        self.end_reason = reason
        self._wait_for(Event.SETTLED, now + SETTLE_LIMIT_S)
        self._peer_rings = False
        self._limit_s = self.rules.max_call_s
        if before in IN_CALL:
            self._reportable_until = now + self.rules.report_window_s
        if reason.kind is ReasonKind.DISTRUST:
            self._timers[Sign.DISTRUST] = now + DISTRUST_SIGN_S
        # The microphone closes first: nothing said after the end may be captured.
        actions: list[Action] = [StopAudio(), StopTone()]
        self._timers.pop(Sign.DOOR, None)
        tone = end_tone(reason)
        if tone is Tone.FAILED:
            self._timers[Sign.FAILED] = now + FAILED_SIGN_S
        if tone is not None:
            actions.append(Play(tone))
        if before is State.SEEKING and reason in _TOLD:
            actions.append(Say(_TOLD[reason]))
        actions.append(Hangup(reason))
        return actions

    def _report_pressed(self, before: State, now: float) -> list[Action]:
        if before in IN_CALL:
            actions: list[Action] = [FileReport()]
            return actions + self._end(before, now, EndReason.REPORTED)
        if now <= self._reportable_until:
            self._reportable_until = float("-inf")
            return [FileReport()]
        # There is no call to report: a click would claim something was filed.
        return [Play(Tone.REPORT_FAILED)] if before in (State.IDLE, State.ENDED) else []
