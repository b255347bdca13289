"""The device: builds every part from the settings and carries out what the pure cores decide.

One rule: no decision is taken here. Events go into the machine, its actions come out and are done; only
this file (and the command line) knows every part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, replace
from typing import assert_never

from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.audio.engine import VoiceEngine
from voicemeet_edge.audio.events import (
    CaptureClosed,
    CaptureOpened,
    EngineEvent,
    EngineStats,
    FirstAudioPlayed,
    PlaybackOpened,
    SoundFailed,
    SoundRecovered,
)
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import MatchedReply, Role
from voicemeet_edge.call import actions as calls
from voicemeet_edge.call import observed
from voicemeet_edge.call.commands import Tell, WordsKnown, WordsMissing
from voicemeet_edge.call.door_lock import Unlock
from voicemeet_edge.call.faults import Faults
from voicemeet_edge.call.machine import IN_CALL, CallMachine, Event, ReportState, State
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.observed import Observer
from voicemeet_edge.call.reception import Reception
from voicemeet_edge.call.reports import ReportSender
from voicemeet_edge.call.ring import GroupRing, Queued
from voicemeet_edge.call.ring_session import RingSession
from voicemeet_edge.call.session import CallSession, News
from voicemeet_edge.call.signs import SAID_WITH, Lamp, Tone
from voicemeet_edge.call.standing import StandingBy
from voicemeet_edge.call_maker import CallMaker
from voicemeet_edge.enrolled import Enrolled
from voicemeet_edge.errors import BackendError, IllegalEventError, is_retryable
from voicemeet_edge.levels import Levels
from voicemeet_edge.net.watch import Change, Watch
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.panel.interface import ButtonEvent, Panel, PanelEvent
from voicemeet_edge.panel.keypad import PoolPressed
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings
from voicemeet_edge.signaling.socket import RealtimeSocket, SocketState
from voicemeet_edge.speech import Speech
from voicemeet_edge.system.life import Part, Proofs
from voicemeet_edge.timers import DeadlineTimer, sleep_to_beat

logger = logging.getLogger(__name__)

REST_AFTER_S = 30.0  # s without a search or call until an idle connection is closed, where that is wanted
ALIVE_EVERY_S = 2.0  # s; the watchdog asks less often, and the lamp's flash wakes the device then anyway
FOLLOW_EVERY_S = 1.0  # s; in a call, as loud as the place is
LEAVE_TIMEOUT_S = 4.0  # s for goodbyes when the device stops; systemd waits 15
REPORT_REASON = "button"  # the panel has one button and no words

_KIND = {Role.EITHER: Kind.MEET, Role.CALLER: Kind.CALLING, Role.ANSWERER: Kind.CALLED}
_PRESS = {
    ButtonEvent.CALL_PRESSED: Event.CALL_PRESSED,
    ButtonEvent.CALL_HELD: Event.CALL_HELD,
    ButtonEvent.REPORT_PRESSED: Event.REPORT_PRESSED,
}
_RESET = (ButtonEvent.RESET_COUNTED, ButtonEvent.RESET_LEFT, ButtonEvent.RESET_ASKED)
_PANEL_FAULT = {ButtonEvent.STUCK: "button_stuck", ButtonEvent.FREED: None}


class Device:
    """One device; make it on a running loop, then `run` it."""

    def __init__(
        self, settings: Settings, panel: Panel, card: SoundCard, *, observe: Observer = observed.ignore
    ) -> None:
        self._settings = settings
        self._panel = panel
        self._observe = observe
        self._role = settings.call.role
        self._machine = CallMachine(settings.call)
        loop = asyncio.get_running_loop()
        self._engine = VoiceEngine(card, settings.audio, loop=loop, on_event=self._sound_event)
        self.levels = Levels(settings, self._engine, panel)
        backend = settings.backend
        tls = tls_context(backend.tls_pin) if backend.url.startswith("https") else None
        self._backend = Backend(backend.url, backend.apikey, tls=tls)
        self._tokens = DeviceTokens(self._backend, shown_pass=backend.pass_)
        self._socket = RealtimeSocket(
            backend.url,
            backend.apikey,
            ssl=tls,
            on_state=self._socket_changed,
            on_reason=self._reason_changed,
            device_token=lambda: self._tokens.current,
            before=self._tokens.get,
            rest_after_s=REST_AFTER_S if backend.close_idle else None,
        )
        self._reports = ReportSender(self._backend, self._report_changed)
        self._maker = CallMaker(settings, self._backend, self._socket, self._tokens, self._engine.receive)
        self._group: asyncio.TaskGroup | None = None
        self._call: asyncio.Task[None] | None = None  # the one search or session at work
        self._session: CallSession | None = None
        # What rings, there or here: before somebody has answered, and while that call lasts.
        self._ring: RingSession | Reception | None = None
        self._last_token: Secret | None = None  # of the call a report would be about
        self._speech = Speech(self._engine, observe)
        self._enrolled = Enrolled(self._tokens, self._refusal_changed)
        self._timer = DeadlineTimer(self._due)
        self._faults = Faults()
        self._alive_at: float | None = None

    def proofs_of_life(self) -> Proofs:
        """When each part last proved that it goes on (monotonic); None: it has nothing to prove just now."""
        return {
            Part.LOOP: self._alive_at,
            Part.CAPTURE: self._engine.capture_alive_at,
            Part.PLAYBACK: self._engine.playback_alive_at,
            Part.PANEL: self._panel.alive_at(),
            Part.SIGNALING: self._socket.alive_at,
        }

    def close_notify(self) -> None:
        """Tell who is talked to that it is over, in any thread: the process ends while its loop hangs."""
        session = self._talking()
        if session is not None:
            session.path.close_notify()

    @property
    def volume(self) -> float:
        """Loudness in force, per cent."""
        return self._engine.volume

    def apply(self, settings: Settings) -> None:
        """Take over what can change while a call runs: loudness, microphone gain, brightness of the lamp."""
        self._settings = replace(self._settings, audio=settings.audio, panel=settings.panel)
        self._maker.settings = self._settings
        self._engine.set_microphone_gain(settings.audio.microphone_gain_db)
        self.levels.apply(settings)

    def system_changed(self, code: str | None) -> None:
        """Show on the lamp that the system below is not what was built, or is again (None)."""
        self._faults.system_changed(code)
        self._tell(())

    def engine_stats(self) -> EngineStats:
        """Counters of the sound."""
        return self._engine.stats()

    def media_stats(self) -> dict[str, object] | None:
        """Figures of the connection in use; None outside a call."""
        stats = self._session.stats() if self._session is not None else None
        return None if stats is None else asdict(stats)

    def refused(self) -> dict[str, int]:
        """What the other side or the server sent in this call and was not obeyed, by reason."""
        return self._session.refused() if self._session is not None else {}

    async def run(self) -> None:
        """Serve until cancelled; then the call is ended, everything closed, nothing left behind."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._socket.run())
                group.create_task(self._reports.run())
                group.create_task(Watch(self._ground_moved).run())
                group.create_task(self._timer.run())
                group.create_task(self._prove_life())
                group.create_task(self._enrolled.run())
                if self._maker.label:
                    group.create_task(StandingBy(self._maker.standing, self._called).run())
                self._execute(self._machine.start(time.monotonic()))
                self._observe(observed.Started())
                self._engine.try_playback()
                try:
                    async for button in self._panel.events():
                        if button is ButtonEvent.TAMPERED:
                            self._observe(observed.Tampered())
                            self._handle_event(Event.FAILED, EndReason.TAMPERED)
                            break
                        self._take_button(button)
                finally:
                    await self._leave_call()  # while there still is a socket to say goodbye on
                group.create_task(_cancel())  # the panel was closed: the person wants out
        except* _ClosedError:
            pass
        finally:
            self._group = None
            await self._close()

    async def _leave_call(self) -> None:
        """End the call or search because the device stops: the other side is told, not left waiting."""
        call = self._call
        if call is None:
            return
        self._engine.stop_call()
        if self._ring is not None:
            self._ring.end(EndReason.SHUTDOWN)
        elif self._session is not None:
            self._session.end(EndReason.SHUTDOWN)
        else:
            call.cancel()
        await asyncio.wait({call}, timeout=LEAVE_TIMEOUT_S)

    async def _close(self) -> None:
        await self._engine.close()
        await self._backend.close()
        await self._panel.close()
        self._observe(observed.Stopped())

    def _take_button(self, button: PanelEvent) -> None:
        if isinstance(button, PoolPressed) or button is ButtonEvent.CALL_PRESSED:
            if self._machine.state in (State.IDLE, State.ENDED):
                self._maker.choose_pool(button)
            button = ButtonEvent.CALL_PRESSED  # in a call every one of them is the call button
        if button is ButtonEvent.CALL_HELD_ON:
            self.levels.step()
            self._observe(observed.VolumeChosen(self.levels.chosen))
        elif button in _PRESS:
            self._observe(observed.ButtonPressed(button))
            self._handle_event(_PRESS[button])
        elif button in _RESET:
            self._count_reset(button)
        else:
            self._faults.panel_changed(_PANEL_FAULT[button])
            self._tell([])

    def _count_reset(self, step: ButtonEvent) -> None:
        """Show how far a factory-reset request is; in a call nobody may ask for one."""
        if self._machine.state is not State.IDLE:
            return
        if step is ButtonEvent.RESET_COUNTED:
            self._execute([calls.Show(Lamp.RESET_COUNT), calls.Play(Tone.RESET_COUNT)])
            return
        self._execute([calls.Show(self._machine.lamp)])
        if step is ButtonEvent.RESET_ASKED:
            self._execute([calls.Play(Tone.RESET_ASKED)])
            self._observe(observed.ResetAsked())

    # -- events in, actions out --------------------------------------------------------------

    def _handle_event(self, event: Event, reason: EndReason = EndReason.FAILED) -> None:
        before = self._machine.state
        try:
            actions = self._machine.handle(event, time.monotonic(), reason)
        except IllegalEventError as error:
            logger.debug("ignored: %s", error)  # a race between two ends is not a fault
            return
        self._execute(actions)
        self._tell_state(before)

    def _tell_state(self, before: State) -> None:
        state = self._machine.state
        if state is before:
            return
        self._faults.state_changed(state)
        self.levels.talk(is_talking=state in IN_CALL)
        reason = self._machine.end_reason if state is State.ENDED else None
        fields = {"state": state.value, "reason": reason}
        logger.info("call: %s%s", state.value, f" ({reason})" if reason else "", extra={"fields": fields})
        self._observe(observed.StateChanged(state, time.monotonic(), reason))

    def _execute(self, actions: list[calls.Action]) -> None:
        for action in actions:
            self._execute_one(action)
        deadlines = [one for one in (self._machine.deadline, self._faults.deadline) if one is not None]
        self._timer.set(min(deadlines, default=None))

    def _execute_one(self, action: calls.Action) -> None:
        match action:
            case calls.Seek() | calls.StandBy():
                self._engine.prepare()
                self._begin_call()
            case calls.Accept():
                if self._session is not None:
                    self._session.accept()
            case calls.Hangup():
                self._hang_up(action.reason)
            case calls.StartAudio():
                if self._session is not None:
                    self._engine.start_call(self._session.path)
            case calls.StartListening():
                if self._session is not None:
                    self._engine.start_listening(self._session.path)
            case calls.StopAudio():
                self._engine.stop_call()
            case calls.FileReport():
                if self._last_token is not None:
                    self._reports.file(self._last_token, REPORT_REASON)
            case calls.SpeakWords():
                self._speech.say_words(self._group, self._settings.audio.language, self._talking)
            case calls.Say():
                self._say(action)
            case calls.Play():
                self._observe(observed.ToneAsked(action.tone))
                self._engine.play(action.tone, repeat=action.repeat)
                if action.tone in SAID_WITH:
                    language = self._settings.audio.language
                    self._speech.say(self._group, language, SAID_WITH[action.tone])
            case calls.StopTone():
                self._engine.stop_tone()
            case calls.Show():
                self._observe(observed.LampChanged(action.lamp))
                self._panel.show(action.lamp)
            case _:
                assert_never(action)

    def _due(self, now: float) -> None:
        before = self._machine.state
        self._execute(self._machine.handle_timer(now))
        self._tell_state(before)
        self._tell(self._faults.handle_timer(now))

    def _tell(self, tells: Iterable[Tell]) -> None:
        """Tell the machine what a core says, and what is broken now."""
        for tell in tells:
            self._handle_event(tell.event, tell.reason)
        for part, code in self._faults.changes():
            self._observe(observed.FaultChanged(part, code))
        self._execute(self._machine.fault_changed(self._faults.current))

    # -- one call at a time ------------------------------------------------------------------

    def _begin_call(self) -> None:
        if self._group is not None:
            if self._session is not None and self._machine.state is State.SEEKING:
                self._session.end(EndReason.BUSY)  # a desk that was about to call here
            self._session = self._ring = None  # one that is slow to go has a successor now
            self._call = self._group.create_task(self._live(self._search_and_talk()))

    def _called(self, matched: MatchedReply) -> None:
        """A desk calls here; it rings, or speaks, when it has shown itself. Who is busy says so."""
        if self._group is None:
            return
        if self._call is None and self._machine.state is State.IDLE:
            self._call = self._group.create_task(self._live(self._talk(matched, Kind.CALLED)))
        else:
            session = self._maker.session(matched, Kind.CALLED, lambda _news: None)
            session.end(EndReason.BUSY)
            self._group.create_task(session.run())

    def _hang_up(self, reason: EndReason) -> None:
        if self._ring is not None:
            self._ring.end(reason)
        elif self._session is not None:
            self._session.end(reason)
        elif self._call is not None:
            self._call.cancel()

    async def _search_and_talk(self) -> None:
        if self._role is Role.CALLER:
            await self._ring_desks()
        elif self._role is Role.ANSWERER:
            await self._receive_callers()
        else:
            await self._talk(await self._maker.search().find(), _KIND[self._role])

    async def _live(self, call: Coroutine[object, object, None]) -> None:
        """Live through one search or call; its end is what the machine calls SETTLED."""
        try:
            await call
        except BackendError as error:
            logger.warning("search refused: %s", error.code)
            self._tell(self._faults.search_refused(error.code, time.monotonic()))
        except asyncio.CancelledError:
            if self._group is None or self._machine.state is not State.ENDED:
                raise  # the device stops; a cancelled search ends here and the device goes on
        if self._call is asyncio.current_task():
            self._session = self._ring = self._call = None
            self._tell(self._faults.call_over(time.monotonic()))

    async def _ring_desks(self) -> None:
        """Ring every desk there is; the one that answers is the call."""
        rules = self._settings.call

        def chosen(session: CallSession) -> None:
            if self._ring is ringing:
                self._session, self._last_token = session, session.token

        ring = GroupRing(rules.nobody_timeout_s, rules.ring_timeout_s, time.monotonic())
        ringing = RingSession(
            ring, self._maker.search, self._new_leg, on_news=self._take_news, on_chosen=chosen
        )
        self._ring = ringing
        await ringing.run()
        if self._session is not None and self._ring is ringing:
            self._last_token = self._session.token

    async def _receive_callers(self) -> None:
        """Wait for a caller that says hello, and talk with it."""
        reception = Reception(
            self._maker.search,
            lambda matched, on_news: self._maker.session(matched, Kind.CALLED, on_news),
            on_news=self._take_news,
            on_chosen=self._begin_session,
        )
        self._ring = reception
        await reception.run()
        if self._session is not None and self._ring is reception:
            self._last_token = self._session.token

    def _new_leg(self, matched: MatchedReply, is_eager: bool, on_news: Callable[[News], None]) -> CallSession:
        if is_eager:
            self._machine.set_call_limit(matched.max_call_s)
            self._observe(observed.Matched(time.monotonic(), matched.offerer == matched.slot))
        return self._maker.session(matched, Kind.CALLING, on_news, is_eager=is_eager)

    async def _talk(self, matched: MatchedReply, kind: Kind) -> None:
        session = self._maker.session(matched, kind, self._take_news)
        self._begin_session(session, matched)
        await session.run()
        self._last_token = session.token

    def _begin_session(self, session: CallSession, matched: MatchedReply) -> None:
        self._session = session
        self._last_token = session.token
        self._machine.set_call_limit(matched.max_call_s)
        self._observe(observed.Matched(time.monotonic(), matched.offerer == matched.slot))

    def _take_news(self, news: News | Queued) -> None:
        match news:
            case Tell():
                self._handle_event(news.event, news.reason)
            case WordsKnown():
                self._observe(news)
            case Queued():
                self._execute(self._machine.queued(news.place))
            case Unlock():
                if self._group is not None:
                    self._group.create_task(self._open_door(news))
            case WordsMissing():
                # Whoever was never told to expect words does not miss them: so it is heard, unasked.
                self._observe(observed.ToneAsked(Tone.WORDS_UNAVAILABLE))
                self._engine.play(Tone.WORDS_UNAVAILABLE)
            case _:
                assert_never(news)

    async def open_door(self, seconds: float) -> bool:
        """Switch the lock; shown and heard only when it was switched."""
        is_open = await self._panel.open_door(seconds)
        now = time.monotonic()
        if is_open:
            self._observe(observed.DoorOpened(seconds, now))
            self._execute(self._machine.door_opened(seconds, now))
        return is_open

    async def _open_door(self, unlock: Unlock) -> None:
        session = self._session
        is_open = await self.open_door(unlock.seconds)
        if is_open:
            logger.info("the door was opened by a desk")
        if session is not None:
            session.unlocked(unlock.request, is_open=is_open)

    def _say(self, said: calls.Say) -> None:
        self._observe(observed.Said(said.prompt, said.place))
        self._speech.say(self._group, self._settings.audio.language, said.prompt, said.place)

    def _talking(self) -> CallSession | None:
        return self._session if self._machine.state is State.TALKING else None

    async def _prove_life(self) -> None:
        """Note that the device's tasks are being run."""
        while True:
            self._alive_at = time.monotonic()
            self.levels.look()
            if self._settings.audio.follow_noise:
                self._engine.follow_noise()
            await sleep_to_beat(FOLLOW_EVERY_S if self._talking() else ALIVE_EVERY_S)

    # -- the world ---------------------------------------------------------------------------

    def _socket_changed(self, state: SocketState) -> None:
        is_up = state in (SocketState.UP, SocketState.RESTING)
        self._observe(observed.BackendChanged(is_up))
        if is_up:
            self._reports.network_back()
        self._execute(self._machine.backend_changed(is_up))

    def _reason_changed(self, reason: NotConnected | None) -> None:
        """Take why there is no connection; a refusal of the pass stands until the hub takes it."""
        self._observe(observed.ConnectionFault(reason or self._enrolled.refusal))

    def _refusal_changed(self) -> None:
        self._faults.refused(self._enrolled.refusal)
        self._tell(())
        self._reason_changed(self._socket.not_connected)

    def _ground_moved(self, change: Change) -> None:
        """Trust no connection that was opened before; a call looks after its own path by itself."""
        self._observe(observed.GroundMoved(change.value))
        if change is Change.CLOCK:
            self._socket.check_network()  # a machine whose clock was set may have been away
            return
        self._socket.network_changed()
        self._backend.network_changed()
        self._reports.network_back()

    def _report_changed(self, state: ReportState) -> None:
        self._observe(observed.ReportChanged(state))
        self._execute(self._machine.report_changed(state, time.monotonic()))

    def self_test_ended(self, failed: bool) -> None:
        """Take what the test of the line found onto the lamp."""
        self._faults.self_test_ended(failed=failed)
        self._tell(())

    def _sound_event(self, event: EngineEvent) -> None:
        match event:
            case CaptureOpened() | CaptureClosed():
                is_open = isinstance(event, CaptureOpened)
                self._observe(observed.MicrophoneChanged(is_open, time.monotonic()))
                self._execute(self._machine.capture_changed(is_open))
            case PlaybackOpened():
                self._observe(observed.LoudspeakerOpened())
            case FirstAudioPlayed():
                self._observe(observed.FirstAudio(event.at_s))
            case SoundFailed():
                self._sound_failed(event)
            case SoundRecovered():
                self._faults.sound_recovered(is_microphone=event.capture)
                self._tell(())
            case _:
                assert_never(event)

    def _sound_failed(self, event: SoundFailed) -> None:
        code = event.error.code
        logger.warning("sound: %s: %s", "microphone" if event.capture else "loudspeaker", code)
        self._observe(observed.SoundLost(code, event.capture))
        self._tell(
            self._faults.sound_failed(
                code,
                time.monotonic(),
                is_microphone=event.capture,
                is_retryable=is_retryable(event.error),
            )
        )


class _ClosedError(Exception):
    """The panel was closed."""


async def _cancel() -> None:
    raise _ClosedError
