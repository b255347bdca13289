"""The device: builds every part from the settings and carries out what the call machine decides.

One rule: no decision is taken here. Events go into the machine, its actions come out and are done; only
this file (and the command line) knows every part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import assert_never

from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.audio.engine import VoiceEngine
from voicemeet_edge.audio.events import (
    CaptureClosed,
    CaptureOpened,
    EngineEvent,
    EngineStats,
    FirstAudioPlayed,
    PathBack,
    PathSilent,
    SoundFailed,
    SoundRecovered,
)
from voicemeet_edge.audio.spoken_words import speak
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import MatchedReply, Role
from voicemeet_edge.build import (
    call_rules,
    intercom_keys,
    peer_options,
    silence_frame,
    turn_memory,
    voice_options,
)
from voicemeet_edge.call import machine as calls
from voicemeet_edge.call import session as talk
from voicemeet_edge.call.machine import CallMachine, Event, ReportState, State
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.reports import ReportOutbox
from voicemeet_edge.call.search import Place, Search
from voicemeet_edge.call.session import CallSession, SessionParts
from voicemeet_edge.call.signs import Tone
from voicemeet_edge.errors import BackendError, IllegalEventError
from voicemeet_edge.panel.interface import ButtonEvent, Panel
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings
from voicemeet_edge.signaling.sealed import make_envelope
from voicemeet_edge.signaling.socket import RealtimeSocket, SocketState
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.webrtc.peer import new_certificate

logger = logging.getLogger(__name__)

Observer = Callable[[str, Mapping[str, object]], None]
"""Told by name what happens, for the status line, the demo and the tests; never secrets."""

LOSS_EVERY_S = 0.4  # seconds; the peer reports its loss every 0.5 to 1.5
STANDBY_PAUSE_S = 30.0  # seconds before an answerer that was refused asks again
LEAVE_TIMEOUT_S = 4.0  # seconds for goodbyes when the device stops; systemd waits 15
MICROPHONE_GRACE_S = 5.0  # seconds an unplugged microphone may be away in a call before the call ends
REPORT_REASON = "button"  # the panel has one button and no words

_KIND = {
    Role.EITHER: (Kind.MEET, Event.MATCHED_TALK),
    Role.CALLER: (Kind.CALLING, Event.MATCHED_CALLING),
    Role.ANSWERER: (Kind.CALLED, Event.MATCHED_CALLED),
}
_PRESS = {
    ButtonEvent.CALL_PRESSED: Event.CALL_PRESSED,
    ButtonEvent.CALL_HELD: Event.CALL_HELD,
    ButtonEvent.REPORT_PRESSED: Event.REPORT_PRESSED,
}


def _ignore(_name: str, _facts: Mapping[str, object]) -> None:
    """The observer of a device nobody observes."""


class Device:
    """One device; make it on a running loop, then `run` it."""

    def __init__(
        self, settings: Settings, panel: Panel, card: SoundCard, *, observe: Observer = _ignore
    ) -> None:
        self._settings = settings
        self._panel = panel
        self._observe = observe
        self._role = Role(settings.call.role)
        self._machine = CallMachine(call_rules(settings))
        loop = asyncio.get_running_loop()
        self._engine = VoiceEngine(card, voice_options(settings), loop=loop, on_event=self._sound_event)
        backend = settings.backend
        tls = tls_context(backend.tls_pin) if backend.url.startswith("https") else None
        self._backend = Backend(backend.url, backend.apikey, tls=tls)
        self._socket = RealtimeSocket(backend.url, backend.apikey, ssl=tls, on_state=self._socket_changed)
        self._tokens = DeviceTokens(self._backend)
        self._reports = ReportOutbox(self._backend, self._report_changed)
        self._keys = intercom_keys(settings)
        self._silence = silence_frame(settings)
        self._turn_memory = turn_memory(settings)  # which TURN transport worked, from call to call
        self._group: asyncio.TaskGroup | None = None
        self._call: asyncio.Task[None] | None = None  # the one search or session at work
        self._session: CallSession | None = None
        self._last_token: Secret | None = None  # of the call a report would be about
        self._speaking: asyncio.Task[None] | None = None
        self._deadline_moved = asyncio.Event()
        self._faults: dict[str, str] = {}  # part of the device: code
        self._microphone_timer: asyncio.TimerHandle | None = None

    def is_healthy(self) -> bool:
        """Say whether everything that must go on goes on; asked by the watchdog, from the loop."""
        return self._group is not None

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
                group.create_task(self._watch_deadline())
                group.create_task(self._watch_loss())
                self._do(self._machine.start(time.monotonic()))
                self._observe("started", {})
                try:
                    async for button in self._panel.events():
                        self._observe("button", {"button": button.value})
                        self._happen(_PRESS[button])
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
        if self._session is not None:
            self._session.end("shutdown")
        else:
            call.cancel()
        await asyncio.wait({call}, timeout=LEAVE_TIMEOUT_S)

    async def _close(self) -> None:
        self._stop_microphone_timer()
        await self._engine.close()
        await self._backend.close()
        await self._panel.close()
        self._observe("stopped", {})

    # -- events in, actions out --------------------------------------------------------------

    def _happen(self, event: Event, reason: str = "") -> None:
        before = self._machine.state
        try:
            actions = self._machine.handle(event, time.monotonic(), reason)
        except IllegalEventError as error:
            logger.debug("ignored: %s", error)  # a race between two ends is not a fault
            return
        self._do(actions)
        self._tell_state(before)

    def _tell_state(self, before: State) -> None:
        state = self._machine.state
        if state is before:
            return
        reason = self._machine.end_reason if state is State.ENDED else None
        logger.info("call: %s%s", state.value, f" ({reason})" if reason else "")
        self._observe("state", {"state": state.value, "reason": reason, "at": time.monotonic()})

    def _do(self, actions: list[calls.Action]) -> None:
        for action in actions:
            self._act(action)
        self._deadline_moved.set()

    def _act(self, action: calls.Action) -> None:
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
                self._start_audio()
            case calls.StopAudio():
                self._engine.stop_call()
            case calls.FileReport():
                if self._last_token is not None:
                    self._reports.file(self._last_token, REPORT_REASON)
            case calls.SpeakWords():
                self._speak_words()
            case calls.Play():
                self._observe("tone", {"tone": action.tone.value})
                self._engine.play(action.tone, repeat=action.repeat)
            case calls.StopTone():
                self._engine.stop_tone()
            case calls.Show():
                self._observe("lamp", {"lamp": action.lamp.value})
                self._panel.show(action.lamp)
            case _:
                assert_never(action)

    async def _watch_deadline(self) -> None:
        while True:
            self._deadline_moved.clear()
            deadline = self._machine.deadline
            try:
                async with timeout(None if deadline is None else deadline - time.monotonic()):
                    await self._deadline_moved.wait()
            except TimeoutError:
                before = self._machine.state
                self._do(self._machine.handle_timer(time.monotonic()))
                self._tell_state(before)

    # -- one call at a time ------------------------------------------------------------------

    def _begin_call(self) -> None:
        if self._group is not None:
            self._call = self._group.create_task(self._search_and_talk())

    def _hang_up(self, reason: str) -> None:
        if self._session is not None:
            self._session.end(reason)
        elif self._call is not None:
            self._call.cancel()

    async def _search_and_talk(self) -> None:
        """Search, then talk; its end is what the machine calls SETTLED."""
        try:
            matched = await self._find()
            if matched is not None:
                await self._talk(matched)
        except asyncio.CancelledError:
            if self._group is None or self._machine.state is not State.ENDED:
                raise  # the device stops; a cancelled search ends here and the device goes on
        finally:
            if self._call is asyncio.current_task():  # a call that was slow to go may have a successor
                self._session = None
                self._call = None
                self._stop_microphone_timer()  # its grace is not the next call's
        if self._machine.state is State.ENDED:
            self._happen(Event.SETTLED)
        elif self._role is Role.ANSWERER and self._machine.state is State.IDLE:
            self._begin_call()

    async def _find(self) -> MatchedReply | None:
        search = Search(
            self._backend, self._tokens, self._socket, Place(self._settings.call.pool, self._role)
        )
        try:
            return await search.find()
        except BackendError as error:
            logger.warning("search refused: %s", error.code)
            if self._machine.state is State.SEEKING:
                self._happen(Event.FAILED, error.code)
                return None
            # An answerer stands by: nobody pressed anything, so the lamp says it and it asks again.
            self._set_fault("backend", error.code)
            await asyncio.sleep(STANDBY_PAUSE_S)
            self._set_fault("backend", None)
            return None

    async def _talk(self, matched: MatchedReply) -> None:
        kind, event = _KIND[self._role]
        parts = SessionParts(
            self._backend,
            self._socket,
            make_envelope(self._keys, matched.call_id, matched.slot),
            peer_options(self._settings, self._turn_memory),
            new_certificate(),
            self._silence,
        )
        session = CallSession(matched, kind, parts, on_event=self._session_event, on_rtp=self._engine.receive)
        self._session = session
        self._last_token = session.token
        self._machine.set_call_limit(matched.max_call_s)
        self._observe("matched", {"at": time.monotonic(), "offerer": matched.offerer == matched.slot})
        if event is not Event.MATCHED_CALLED:  # a desk rings when its caller is there, not before
            self._happen(event)
        await session.run()
        self._last_token = session.token

    def _session_event(self, event: talk.SessionEvent) -> None:
        match event:
            case talk.PeerHere():
                if self._role is Role.ANSWERER:
                    self._happen(Event.MATCHED_CALLED)
            case talk.PeerRings():
                self._happen(Event.PEER_RINGS)
            case talk.PeerAccepted():
                self._happen(Event.PEER_ACCEPTED)
            case talk.MediaConnected():
                self._happen(Event.CONNECTED)
            case talk.MediaLost():
                self._happen(Event.PATH_LOST)
            case talk.PeerBye():
                self._end_session(Event.PEER_BYE, event.reason)
            case talk.SessionFailed():
                self._end_session(Event.FAILED, event.code)
            case talk.WordsKnown():
                self._observe("words", {"words": list(event.words)})
            case _:
                assert_never(event)

    def _end_session(self, event: Event, reason: str) -> None:
        if self._machine.state is State.IDLE and self._session is not None:
            self._session.end(reason)  # it never rang: nobody here has to know
        else:
            self._happen(event, reason)

    def _speak_words(self) -> None:
        if self._group is not None and (self._speaking is None or self._speaking.done()):
            self._speaking = self._group.create_task(self._speak())

    async def _speak(self) -> None:
        """Say the check words; never words that were not computed for this very connection."""
        session = self._session
        words = session.words if session is not None else None
        samples = await speak(words) if words is not None else None
        if self._session is not session or self._machine.state is not State.TALKING:
            return  # the call the words belong to is over
        if samples is None:
            self._observe("tone", {"tone": Tone.WORDS_UNAVAILABLE.value})
            self._engine.play(Tone.WORDS_UNAVAILABLE)
        else:
            self._observe("spoken", {"count": len(words or ())})
            self._engine.play_samples(samples)

    def _start_audio(self) -> None:
        session = self._session
        if session is None:
            return
        red = session.red_payload_type
        send = session.send if red is None else session.send_red
        self._engine.start_call(
            send, red_payload_type=red, any_thread=lambda: session.any_thread, poll=session.poll
        )

    async def _watch_loss(self) -> None:
        """Tell the encoder what the peer loses, once for each of its reports."""
        seen = 0
        while True:
            await asyncio.sleep(LOSS_EVERY_S)
            stats = self._session.stats() if self._session is not None else None
            if stats is not None and stats.loss_reports != seen:
                seen = stats.loss_reports
                self._engine.set_loss(stats.loss_there)

    # -- the world ---------------------------------------------------------------------------

    def _socket_changed(self, state: SocketState) -> None:
        is_up = state is SocketState.UP
        self._observe("backend", {"up": is_up})
        if is_up:
            self._reports.network_back()
        self._do(self._machine.backend_changed(is_up))

    def _report_changed(self, state: ReportState) -> None:
        self._observe("report", {"report": state.value})
        self._do(self._machine.report_changed(state, time.monotonic()))

    def _sound_event(self, event: EngineEvent) -> None:
        match event:
            case CaptureOpened() | CaptureClosed():
                is_open = isinstance(event, CaptureOpened)
                self._observe("microphone", {"open": is_open, "at": time.monotonic()})
                self._do(self._machine.capture_changed(is_open))
            case FirstAudioPlayed():
                self._observe("first_audio", {"at": event.at_s})
            case SoundFailed():
                self._sound_failed(event)
            case SoundRecovered():
                self._set_fault("microphone" if event.capture else "loudspeaker", None)
            case PathSilent() | PathBack():
                pass  # the session watches its path itself
            case _:
                assert_never(event)

    def _sound_failed(self, event: SoundFailed) -> None:
        logger.warning("sound: %s: %s", "microphone" if event.capture else "loudspeaker", event.error.code)
        self._observe("sound_failed", {"code": event.error.code, "capture": event.capture})
        self._set_fault("microphone" if event.capture else "loudspeaker", event.error.code)
        if not event.error.retryable:
            self._end_without_sound(event.error.code)
        elif event.capture and self._microphone_timer is None:
            loop = asyncio.get_running_loop()
            self._microphone_timer = loop.call_later(MICROPHONE_GRACE_S, self._microphone_overdue)

    def _set_fault(self, part: str, code: str | None) -> None:
        """Note what is broken, or mended with None; the lamp shows whether anything is."""
        self._faults.pop(part, None)
        if code is not None:
            self._faults[part] = code
        self._do(self._machine.fault_changed(next(iter(self._faults.values()), None)))

    def _stop_microphone_timer(self) -> None:
        timer, self._microphone_timer = self._microphone_timer, None
        if timer is not None:
            timer.cancel()

    def _microphone_overdue(self) -> None:
        self._microphone_timer = None
        if self._machine.state is State.TALKING and not self._engine.capture_open:
            self._end_without_sound("microphone_lost")

    def _end_without_sound(self, code: str) -> None:
        if self._machine.state in calls.IN_CALL:
            self._happen(Event.FAILED, code)


class _ClosedError(Exception):
    """The panel was closed."""


async def _cancel() -> None:
    raise _ClosedError
