"""Two devices, a hub and a coturn as whole processes: calls from press to receipt, and each defined end."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.system.lab import Lab, LabCall, ended, events, meet
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import MatchedReply, Role, Slot
from voicemeet_edge.demo.remote import BETWEEN_PRESSES_S, RemoteDevice
from voicemeet_edge.hub.settings import TurnSettings
from voicemeet_edge.hub.turn import provider
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.messages import Bye, Hello, parse, serialize
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.testing.waiting import until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

DIRECT = LabCall(policy="direct")
RELAY = LabCall(policy="relay")
CALLER = LabCall(role="caller", policy="direct")
ANSWERER = LabCall(role="answerer", policy="direct")


async def pair(lab: Lab, call: LabCall, **rules: object) -> tuple[RemoteDevice, RemoteDevice]:
    one, other = await asyncio.gather(lab.device("a", call, rules=rules), lab.device("b", call, rules=rules))
    return one, other


def stored(lab: Lab) -> list[tuple[object, ...]]:
    """The rows of the hub's reports, after a look for anything that names somebody."""
    raw = b"".join(path.read_bytes() for path in lab.settings.state_dir.glob("hub.db*"))
    for pattern in (rb"127\.0\.0\.1", rb"candidate:", rb"v=0\r?\n", rb"eyJ[\w-]{10}", rb"fingerprint"):
        assert not re.search(pattern, raw)
    with sqlite3.connect(f"file:{lab.settings.state_dir / 'hub.db'}?mode=ro", uri=True) as database:
        rows = database.execute("SELECT reported, reason, held FROM reports").fetchall()
    database.close()
    return rows


async def report(device: RemoteDevice, lab: Lab) -> None:
    """Press report and see it through: receipt, lamp, and the row at the hub."""
    await device.press("report")
    await device.expect("report", report="sent")
    await device.expect("lamp", lamp="report_sent")
    ((reported, reason, held),) = stored(lab)
    assert re.fullmatch(r"[\w-]{20,64}", str(reported))
    assert (reason, held) == ("button", 0)


async def test_a_direct_call_from_press_to_receipt(lab: Lab) -> None:
    one, other = await pair(lab, DIRECT)
    await meet(one, other)
    for device in (one, other):
        await device.expect("words")
        await device.expect("lamp", lamp="microphone_open")
    assert events(one, "words")[-1]["words"] == events(other, "words")[-1]["words"]
    await lab.both_hear(one, other)
    assert (await one.stats())["media"]["local_kind"] == "host"
    await one.press("hold")
    if shutil.which("espeak-ng") is None:
        await one.expect("tone", tone="words_unavailable")
    else:
        await one.expect("spoken", count=3)
    other.mark()
    await one.press()
    await ended(one, "hung_up")
    await ended(other, "peer_hung_up")
    for device in (one, other):
        await device.expect("microphone", open=False)
    await report(one, lab)
    await one.expect("tone", tone="report_sent")


async def test_a_relayed_call_and_a_report_that_ends_it(relay_lab: Lab) -> None:
    one, other = await pair(relay_lab, RELAY)
    await meet(one, other)
    await relay_lab.both_hear(one, other)
    for device in (one, other):
        assert (await device.stats())["media"]["local_kind"] == "relay"
    other.mark()
    await report(other, relay_lab)
    await ended(other, "reported")
    # Who was reported is not told so.
    await ended(one, "peer_hung_up")


async def with_wrong_secret(lab: Lab, directory: Path) -> Lab:
    """Another hub that names the coturn of this one, and does not know its secret."""
    assert lab.info is not None
    assert lab.info.turn is not None
    strange = Lab.make(directory / "strange", lab.stack)
    strange.directory.mkdir()
    secret = directory / "secret"
    secret.write_text("not the one of this coturn")
    settings = TurnSettings(provider="hmac", secret_file=str(secret), urls=provider.turn_urls(lab.info.turn))
    strange.settings = replace(strange.settings, turn=settings)
    lab.stack.push_async_callback(strange.stop_hub)
    await strange.start_hub()
    return strange


@pytest.mark.parametrize("fault", ["wrong", "expired"])
async def test_credentials_that_coturn_refuses(
    relay_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    lab = relay_lab
    if fault == "wrong":
        lab = await with_wrong_secret(relay_lab, tmp_path)
    else:
        make = provider.turn_username

        def expired(secret: Secret, call_id: str, slot: Slot, _expires_at: float) -> str:
            return make(secret, call_id, slot, 1_700_000_000.0)

        monkeypatch.setattr(provider, "turn_username", expired)
    one, other = await pair(lab, RELAY)
    for _ in range(2):  # and again: the device is as good as new
        await one.press()
        await other.press()
        for device in (one, other):
            await ended(device, "turn_unauthorized")
            await device.expect("tone", tone="failed")
            await device.expect("lamp", lamp="ready")
    assert not events(one, "microphone")


async def test_a_call_that_fails_before_the_other_side_has_come(relay_lab: Lab, tmp_path: Path) -> None:
    lab = await with_wrong_secret(relay_lab, tmp_path)
    assert lab.info is not None
    device = await lab.device("a", replace(RELAY, role="caller"))  # a caller always makes the offer
    await device.press()
    await until(lambda: lab.waiting() > 0)
    backend = Backend(lab.info.url, lab.info.apikey)
    socket = RealtimeSocket(lab.info.url, lab.info.apikey)
    running = asyncio.create_task(socket.run())
    byes: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    try:
        token = (await backend.session()).device_token
        matched = await backend.match(token, secrets.token_urlsafe(16), RELAY.pool, Role.ANSWERER)
        assert isinstance(matched, MatchedReply)
        await device.state("ended")  # and only now the other side comes
        channel = socket.channel(
            f"call:{matched.call_id}",
            matched.token,
            on_broadcast=lambda event, payload: byes.put_nowait(payload) if event == "bye" else None,
            on_state=lambda _: None,
        )
        await channel.send(*serialize(Hello(matched.slot, 1, True)), 10.0)
        async with asyncio.timeout(10):
            bye = parse("bye", await byes.get())
        assert isinstance(bye, Bye)
        assert bye.reason == "turn_unauthorized"
        await ended(device, "turn_unauthorized")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await backend.close()


async def test_a_desk_is_rung_and_answers(lab: Lab) -> None:
    caller, desk = await asyncio.gather(lab.device("a", CALLER), lab.device("b", ANSWERER))
    await caller.press()
    await desk.state("ringing")
    await desk.expect("lamp", lamp="ringing")
    await desk.expect("tone", tone="incoming")
    await caller.expect("lamp", lamp="ringing")
    ringback = await caller.expect("tone", tone="ringback")
    # Nobody hears a ring that does not ring, and no microphone is open before somebody answered.
    assert ringback["at"] > events(desk, "state", state="ringing")[-1]["at"]
    assert not events(desk, "microphone") + events(caller, "microphone")
    answered_at = await desk.press()
    for device in (caller, desk):
        await device.state("talking")
        await device.expect("first_audio")
        assert (await device.expect("microphone", open=True))["at"] > answered_at
    desk.mark()
    await caller.press()
    await ended(caller, "hung_up")
    await ended(desk, "peer_hung_up")


async def test_nobody_answers_then_the_caller_cancels(lab: Lab) -> None:
    caller, desk = await asyncio.gather(
        lab.device("a", CALLER, rules={"ring_timeout_s": 5.0}), lab.device("b", ANSWERER)
    )
    await caller.press()
    await desk.state("ringing")
    await caller.expect("tone", tone="ringback")
    await ended(caller, "no_answer")
    await caller.expect("tone", tone="busy")
    await ended(desk, "no_answer")
    desk.mark()
    await caller.press()
    await caller.expect("tone", tone="ringback")
    await desk.state("ringing")
    await caller.press()
    await ended(caller, "cancelled")
    await ended(desk, "peer_hung_up")
    await desk.expect("lamp", lamp="ready")
    assert not events(desk, "microphone") + events(caller, "microphone")


async def test_a_peer_that_is_killed(lab: Lab) -> None:
    one, other = await pair(lab, DIRECT, reconnect_timeout_s=2.0)
    await meet(one, other)
    one.mark()
    other.kill()
    await one.state("reconnecting")
    await one.expect("lamp", lamp="reconnecting")
    await one.expect("tone", tone="path_lost")
    await ended(one, "path_lost")
    third = await lab.device("c", DIRECT)
    await meet(one, third)


async def test_both_hang_up_at_once(lab: Lab) -> None:
    one, other = await pair(lab, DIRECT)
    await meet(one, other)
    await asyncio.sleep(BETWEEN_PRESSES_S)  # or one waits until it may press again, and the other does not
    await asyncio.gather(one.press(), other.press())
    for device in (one, other):
        event = await device.state("ended")
        assert event["reason"] in ("hung_up", "peer_hung_up")
        # A press that came in after the other side's bye is one for the next call: it searches again.
        await device.state("idle" if event["reason"] == "hung_up" else "seeking")


async def no_more_than(before: dict[str, Any], device: RemoteDevice, kinds: tuple[str, ...]) -> None:
    """Wait until a device holds no more than after its first call; a leak of each later call stays."""
    async with asyncio.timeout(30):
        now = await device.stats()
        while not all(now[kind] <= before[kind] for kind in kinds):
            await asyncio.sleep(0.1)
            now = await device.stats()


async def test_a_full_pool_and_a_cancelled_search(lab: Lab) -> None:
    await lab.stop_hub()
    lab.settings = replace(lab.settings, match=replace(lab.settings.match, max_waiting=1))
    await lab.start_hub()
    one, other = await asyncio.gather(lab.device("a", CALLER), lab.device("b", CALLER))
    left = []
    for _ in range(3):
        await one.press()
        await one.expect("lamp", lamp="seeking")
        await until(lambda: lab.waiting() > 0)
        await other.press()
        await ended(other, "pool_full")
        await other.expect("tone", tone="busy")
        await one.press()
        await ended(one, "cancelled")
        assert lab.waiting() == 0
        left.append(await one.stats())
    await no_more_than(left[0], one, ("tasks", "files"))
    await other.press()
    await until(lambda: lab.waiting() > 0)


async def test_the_longest_call_warns_and_ends(lab: Lab) -> None:
    await lab.stop_hub()
    lab.settings = replace(lab.settings, call=replace(lab.settings.call, max_call_s=10.0))
    await lab.start_hub()
    one, other = await pair(lab, DIRECT, warn_before_end_s=5.0)
    await meet(one, other)
    for device in (one, other):
        await device.expect("tone", tone="time_warning")
        event = await device.state("ended")
        # Whose clock runs out second hears it from the other.
        assert event["reason"] == "time_limit"
        await device.state("idle")
        warned_at = events(device, "tone", tone="time_warning")[-1]["at"]
        assert warned_at < event["at"]


async def test_a_microphone_that_cannot_be_opened(lab: Lab) -> None:
    nothing = {"card": "alsa", "capture": "plughw:CARD=Nowhere", "playback": "plughw:CARD=Nowhere"}
    one, other = await asyncio.gather(lab.device("a", DIRECT, audio=nothing), lab.device("b", DIRECT))
    left = []
    for _ in range(3):
        await one.press()
        await other.press()
        await ended(one, "microphone_lost")
        await ended(other, "microphone_lost")
        await other.expect("tone", tone="failed")
        await one.expect("lamp", lamp="error")
        assert events(one, "sound_failed", capture=True)
        left.append(await one.stats())
    await no_more_than(left[0], one, ("tasks", "files", "threads"))


async def test_a_device_that_is_stopped_says_goodbye(lab: Lab) -> None:
    one, other = await pair(lab, DIRECT)
    await meet(one, other)
    other.mark()
    assert await one.stop() == 0
    await ended(other, "peer_hung_up")
    assert not events(other, "tone", tone="path_lost")
