"""`voicemeet-edge doctor`: everything a device needs, tried one after the other on the spot.

One rule: each check tries the real thing, has a limit, and says what to do when it fails. Nothing is sent
that another party notices; the loudspeaker chirps once.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from voicemeet_edge.audio.alsa import AlsaCard
from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.audio.chirp import chirp, look_for
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.backend.verbs import DeskState, MatchRequest, Role
from voicemeet_edge.build import search_target, sound_card
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.errors import BackendError, SettingsError, SoundError, VoiceMeetError, XrunError
from voicemeet_edge.net import eyeballs
from voicemeet_edge.net.faults import of_os_error
from voicemeet_edge.not_connected import REFUSALS, NotConnected, of_status
from voicemeet_edge.panel.interface import ButtonEvent, Panel
from voicemeet_edge.panel.opening import open_panel
from voicemeet_edge.secret import Secret
from voicemeet_edge.self_test import test_line
from voicemeet_edge.settings import Settings
from voicemeet_edge.signaling.socket import RealtimeSocket, SocketState
from voicemeet_edge.system.findings import Finding, Outcome
from voicemeet_edge.system.machine_health import machine_health
from voicemeet_edge.timeouts import timeout
from voicemeet_edge.voice.format import PERIOD_SAMPLES, SAMPLE_RATE

logger = logging.getLogger(__name__)

CHECK_LIMIT_S = 15.0  # s for any one check
PRESS_LIMIT_S = 12.0  # s for a person to press a button
CONNECT_LIMIT_S = 5.0  # s for one TCP connection
MAX_SKEW_S = 30.0  # s between our clock and the hub's; tokens live for minutes
LISTEN_S = 1.5  # s recorded for a chirp, its delay included
QUIET_DB = -50.0  # dB of full scale; a chirp fainter than this is hardly heard across a room

WELL, DOUBT, FAULT, SKIPPED = Outcome.WELL, Outcome.DOUBT, Outcome.FAULT, Outcome.SKIPPED


async def try_connection(settings: Settings) -> AsyncGenerator[Finding, None]:
    """Yield what is found on the way to the hub, nearest first, up to the first fault."""
    for check in (_names, _port, _clock, _verbs, _realtime):
        is_broken = False
        for finding in await _limited(check.__name__.strip("_"), check(settings)):
            yield finding
            is_broken |= finding.outcome is FAULT
        if is_broken:
            return
    for finding in (await test_line(settings))[0]:
        yield finding


async def examine(config: Path, ask: Callable[[str], object] | None = None) -> AsyncGenerator[Finding, None]:
    """Yield the findings as they come.

    Args:
        config: the settings file.
        ask: says to the person who is there what to press; None when nobody is.
    """
    try:
        settings = await asyncio.to_thread(Settings.load, config)
    except SettingsError as error:
        yield Finding("settings", FAULT, str(error), "mend that line; `voicemeet-edge check` tries it again")
        for finding in await asyncio.to_thread(_machine):
            yield finding
        return
    yield Finding("settings", WELL, str(config))
    for finding in await asyncio.to_thread(_machine):
        yield finding
    for finding in await _network(settings):
        yield finding
    async with contextlib.aclosing(try_connection(settings)) as connection:
        async for finding in connection:
            yield finding
    for finding in await asyncio.to_thread(_sound_of, settings):
        yield finding
    for finding in await _limited("panel", _panel(settings, ask)):
        yield finding


async def _limited(name: str, check: object) -> list[Finding]:
    assert asyncio.iscoroutine(check)
    try:
        async with timeout(CHECK_LIMIT_S):
            return list(await check)
    except TimeoutError:
        return [Finding(name, FAULT, f"no answer within {CHECK_LIMIT_S:.0f} s", "is the network slow?")]


def _machine() -> list[Finding]:
    health = machine_health()
    faults = [Finding("machine", DOUBT, *_split(fault)) for fault in health.faults()]
    if faults:
        return faults
    warm = "" if health.temperature_c is None else f"{health.temperature_c:.0f} °C, "
    return [Finding("machine", WELL, f"{warm}{health.disk_free_mb} MB of disk free")]


def _split(fault: str) -> tuple[str, str]:
    found, _, advice = fault.partition(": ")
    return found, advice


async def _network(_settings: Settings) -> list[Finding]:
    return await asyncio.to_thread(_ways_out)


def _ways_out() -> list[Finding]:
    """Ask the routing table only; nothing is sent."""
    families = []
    for family, name, anywhere in (
        (socket.AF_INET, "IPv4", "192.0.2.1"),
        (socket.AF_INET6, "IPv6", "2001:db8::1"),
    ):
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((anywhere, 9))
            except OSError:
                continue
            families.append(name)
    if families:
        return [Finding("network", WELL, f"a way out by {' and '.join(families)}")]
    return [Finding("network", DOUBT, "no way out of this network", "fine for a hub in this network only")]


async def _names(settings: Settings) -> list[Finding]:
    host = urlsplit(settings.backend.url).hostname or ""
    loop = asyncio.get_running_loop()
    found = []
    for family, name in ((socket.AF_INET, "IPv4"), (socket.AF_INET6, "IPv6")):
        try:
            if await loop.getaddrinfo(host, None, family=family, type=socket.SOCK_STREAM):
                found.append(name)
        except OSError:
            continue
    if not found:
        return [_fault("name", NotConnected.NAME_UNKNOWN)]
    return [Finding("name", WELL, f"the hub's name has an address by {' and '.join(found)}")]


async def _port(settings: Settings) -> list[Finding]:
    url = urlsplit(settings.backend.url)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        async with timeout(CONNECT_LIMIT_S):
            one = await eyeballs.connect(url.hostname or "", port)
    except OSError as error:
        return [_fault("port", of_os_error(error))]
    one.close()
    return [Finding("port", WELL, "something listens there")]


def _fault(check: str, reason: NotConnected, found: str = "") -> Finding:
    return Finding(check, FAULT, found or reason.said, reason.cure)


async def _clock(settings: Settings) -> list[Finding]:
    try:
        date = await asyncio.to_thread(_date_of_backend, settings)
    except (OSError, VoiceMeetError, http.client.HTTPException):
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
        return [Finding("clock", SKIPPED, f"now {now} UTC; nobody to compare with")]
    if date is None:
        return [Finding("clock", SKIPPED, "the hub tells no time")]
    skew_s = time.time() - date.timestamp()
    if abs(skew_s) > MAX_SKEW_S:
        found = f"{NotConnected.CLOCK.said}: {skew_s:+.0f} s against the hub's"
        return [Finding("clock", DOUBT, found, NotConnected.CLOCK.cure)]
    return [Finding("clock", WELL, f"{skew_s:+.0f} s against the hub's")]


def _date_of_backend(settings: Settings) -> datetime | None:
    url = urlsplit(settings.backend.url)
    host = url.hostname or ""
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        context = tls_context(settings.backend.tls_pin)
        connection = http.client.HTTPSConnection(host, url.port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection(host, url.port, timeout=5)
    try:
        connection.request("HEAD", "/")
        text = connection.getresponse().getheader("Date")
    finally:
        connection.close()
    try:
        return parsedate_to_datetime(text) if text else None
    except (TypeError, ValueError):
        return None


async def _verbs(settings: Settings) -> list[Finding]:
    """Ask each verb something that changes nothing: a refusal in the contract's words is an answer, too."""
    backend = settings.backend
    tls = tls_context(backend.tls_pin) if backend.url.startswith("https") else None
    client = Backend(backend.url, backend.apikey, tls=tls)
    try:
        finding = await _ask_verbs(client)
        if finding.outcome is FAULT:
            return [finding]
        return [finding, *await _admission(client, settings)]
    finally:
        await client.close()


async def _ask_verbs(client: Backend) -> Finding:
    nothing = Secret("e30.e30.e30")  # a token of nobody
    before = time.monotonic()
    try:
        token = (await client.session()).device_token
    except BackendError as error:
        reason = NotConnected.of(error.code) or of_status(error.status)
        # Where nobody answered its own sentence says more: what this machine's clock says, for one.
        said = reason.said if error.status else str(error)
        return _fault("hub", reason, f"{said} ({error.code})")
    finally:
        round_ms = 1000 * (time.monotonic() - before)
    silent = []
    ticket = secrets.token_urlsafe(16)
    for name, verb in (
        ("match", client.match(token, ticket, "doctor-of-nobody", Role.EITHER)),
        ("leave", client.leave(token, ticket)),
        ("renew", client.renew(nothing)),
        ("report", client.report(nothing, "button")),
        ("ended", client.ended(nothing, 0)),
    ):
        try:
            await verb
        except BackendError as error:
            if not 400 <= error.status < 500:
                silent.append(f"{name} ({error.code})")
    if silent:
        return Finding("hub", FAULT, f"no answer to: {', '.join(silent)}", "look at the hub's log")
    return Finding("hub", WELL, f"every verb answers; key and certificate fit ({round_ms:.0f} ms)")


async def _admission(client: Backend, settings: Settings) -> list[Finding]:
    """Ask whether pass, pool and key would let this device in, as nobody who rings or is rung."""
    shown, target = settings.backend.pass_, search_target(settings, settings.call.pool)
    ticket = secrets.token_urlsafe(16)
    # A door that stands by rings nowhere, and an answerer who is away is rung by nobody.
    label, state = ("doctor", DeskState.FREE) if target.role is Role.CALLER else ("", DeskState.AWAY)
    role = target.role if target.role is Role.CALLER else Role.ANSWERER
    try:
        token = (await client.session(shown_pass=shown or None)).device_token
        proof = replace(target, role=role).proof(token, ticket)
        request = MatchRequest(ticket, target.pool, role, proof, label=label, state=state)
        try:
            await client.search(token, request)
        finally:
            await client.leave(token, ticket)
    except BackendError as error:
        return _refused(error, shown)
    return [Finding("pool", WELL, f"{target.pool}, and the pass is good for it")]


def _refused(error: BackendError, shown: Secret | None) -> list[Finding]:
    if error.code == "bad_request":  # so it is said in an open pool, where no door stands by
        return [Finding("pool", WELL, "it is there, and takes no pass")]
    reason = NotConnected.of(error.code)
    if reason not in REFUSALS:
        return [Finding("pool", SKIPPED, f"could not be tried ({error.code})")]
    check = "pass" if shown and reason is NotConnected.PASS_REFUSED else "pool"
    return [_fault(check, reason, f"{reason.said} ({error})")]


async def _realtime(settings: Settings) -> list[Finding]:
    backend = settings.backend
    tls = tls_context(backend.tls_pin) if backend.url.startswith("https") else None
    known = asyncio.Event()

    def changed(state: SocketState) -> None:
        if state is SocketState.UP:
            known.set()

    def told(reason: NotConnected | None) -> None:
        if reason not in (None, NotConnected.LOST, NotConnected.BUSY_HUB):
            known.set()  # waiting would not change it

    connection = RealtimeSocket(backend.url, backend.apikey, ssl=tls, on_state=changed, on_reason=told)
    running = asyncio.create_task(connection.run())
    try:
        async with timeout(CHECK_LIMIT_S - 2):
            await known.wait()
    except TimeoutError:
        pass
    finally:
        is_up, reason = connection.state is SocketState.UP, connection.not_connected
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    if is_up:
        return [Finding("signaling", WELL, "the WebSocket to the hub is open")]
    if reason in REFUSALS:
        return [_fault("signaling", reason)]
    said = "" if reason is None else f": {reason.said}"
    advice = "does a proxy or firewall in between stop WebSockets?"
    return [Finding("signaling", FAULT, f"no WebSocket to the hub{said}", advice)]


def _sound_of(settings: Settings) -> list[Finding]:
    try:
        card = sound_card(settings)
    except SettingsError as error:  # what follows is to be tried all the same
        return [Finding("sound", FAULT, str(error), "mend that line")]
    return _sound(card)


def _sound(card: SoundCard) -> list[Finding]:
    findings = []
    if isinstance(card, AlsaCard):
        choice = card.choice()
        if choice.capture is None or choice.playback is None:
            advice = "plug in a USB sound card; `voicemeet-edge devices` lists what is there"
            return [Finding("sound", FAULT, choice.why, advice)]
        findings.append(Finding("sound", WELL, choice.why))
    try:
        heard = look_for(chirp(), _play_and_record(card))
    except SoundError as error:
        stop = "stop the device first: `systemctl stop voicemeet-edge`"
        advice = stop if "busy" in error.code else "is it plugged in? `voicemeet-edge devices`"
        return [*findings, Finding("chirp", FAULT, str(error), advice)]
    if not heard.sure:
        advice = "is the loudspeaker on and near the microphone? is one of them muted?"
        return [*findings, Finding("chirp", FAULT, "the microphone did not hear the loudspeaker", advice)]
    figures = f"{heard.level_db:.0f} dB, {heard.delay_ms:.0f} ms"
    if heard.clipped > 0.01:
        found = f"too loud at the microphone ({figures}, {100 * heard.clipped:.0f} % clipped)"
        return [*findings, Finding("chirp", DOUBT, found, "lower audio.volume, or turn the microphone away")]
    if heard.level_db < QUIET_DB:
        return [*findings, Finding("chirp", DOUBT, f"hardly heard ({figures})", "raise audio.volume")]
    return [*findings, Finding("chirp", WELL, f"heard ({figures})")]


def _play_and_record(card: SoundCard) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """Play the chirp once and record from its first sample on. Blocks for the time of the recording."""
    silence = bytes(2 * PERIOD_SAMPLES)
    said = chirp().tobytes()
    size = len(silence)
    periods = [said[at : at + size].ljust(size, b"\0") for at in range(0, len(said), size)]
    heard = []
    capture, playback = card.open_capture(), None
    try:
        playback = card.open_playback()
        for number in range(int(LISTEN_S * SAMPLE_RATE / PERIOD_SAMPLES)):
            with contextlib.suppress(XrunError):  # a period lost here or there does not hide a chirp
                playback.write(periods[number] if number < len(periods) else silence)
            try:
                heard.append(capture.read())
            except XrunError:
                heard.append(silence)
    finally:
        capture.close()
        if playback is not None:
            playback.close()
    return np.frombuffer(b"".join(heard), np.int16)


async def _panel(settings: Settings, ask: Callable[[str], object] | None) -> list[Finding]:
    if settings.panel.factory in ("none", "terminal"):
        return [Finding("panel", SKIPPED, f'panel.factory = "{settings.panel.factory}"')]
    try:
        panel = open_panel(settings.panel)
    except VoiceMeetError as error:
        if "in use by voicemeet-edge" in str(error):
            return [Finding("panel", WELL, "its lines are held by the running device")]
        return [Finding("panel", FAULT, str(error), "`gpioinfo` lists the lines and who uses them")]
    try:
        if ask is None:
            return [Finding("panel", WELL, "its lines are there and free")]
        return [await _one_press(panel, ask)]
    finally:
        await panel.close()


async def _one_press(panel: Panel, ask: Callable[[str], object]) -> Finding:
    """Let the person who is there press a button, and say which it was."""
    panel.show(Lamp.RINGING)
    ask(f"Press call within {PRESS_LIMIT_S:.0f} s (the lamp flashes twice, again and again):")
    try:
        async with timeout(PRESS_LIMIT_S):
            async for event in panel.events():
                if event in (ButtonEvent.CALL_PRESSED, ButtonEvent.CALL_HELD):
                    return Finding("panel", WELL, "its lines are there, and a press of call was seen")
                if event is ButtonEvent.REPORT_PRESSED:
                    advice = "panel.call_line and report_line in the settings: are they changed over?"
                    return Finding("panel", FAULT, "that press came as one of report", advice)
    except TimeoutError:
        pass
    advice = "does the button close its line to ground? docs/panel.md has the wiring; `pull` says which way"
    return Finding("panel", FAULT, "no press of call was seen", advice)
