"""A desk that stays on duty, is ready only when it is, and keeps nothing but what the person chose."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.desk.conftest import Desks
from tests.desk.in_node import Module
from tests.desk.test_calls import CALL, STATE, both, is_shown, ring, text
from tests.desk.test_waiting import CATCH_CONTEXTS, SHOWN
from voicemeet_edge.hub.own_desk import running_desk
from voicemeet_edge.testing.browser import Browser, BrowserError

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

KEPT = """(async () => {
  const kept = [...Array(localStorage.length).keys()].map((at) => localStorage.getItem(localStorage.key(at)));
  const stores = await indexedDB.databases();
  return JSON.stringify([kept, stores, document.cookie, [...Array(sessionStorage.length).keys()]]);
})()"""
HOLD_MATCH = """(() => {
  const real = window.fetch;
  window.released = new Promise((resolve) => (window.release = resolve));
  window.fetch = async (url, ...rest) => {
    if (!String(url).endsWith('/match')) return real(url, ...rest);
    window.held = true;
    await window.released;
    return real(url, ...rest);
  };
})()"""
NO_DEVICES = """(() => {
  const devices = navigator.mediaDevices;
  const real = devices.enumerateDevices.bind(devices);
  window.unplugged = true;
  devices.enumerateDevices = async () =>
    (await real()).filter(({ kind }) => !(window.unplugged && kind === 'audioinput'));
  devices.dispatchEvent(new Event('devicechange'));
})()"""
WATCH_NOTIFICATIONS = """(() => {
  window.notified = [];
  window.Notification = class {
    static permission = 'granted';
    static requestPermission = async () => 'granted';
    constructor(title) { this.title = title; window.notified.push(`show ${title}`); }
    close() { window.notified.push('close'); }
  };
})()"""


async def stay_on_duty(page: Browser) -> None:
    await page.click("#stay")
    await page.click("#start")
    await page.wait_for(STATE("ready"))


async def reloaded(page: Browser) -> None:
    await page.evaluate("(window.old = true, location.reload(), 0)")
    await page.wait_for("window.old === undefined && window.voicemeet !== undefined")


async def test_a_reload_finds_the_desk_on_duty_until_it_goes_off(desks: Desks) -> None:
    desk = await desks.page("pool=lobby")
    await stay_on_duty(desk)
    await reloaded(desk)
    await desk.wait_for(STATE("ready"))
    assert await desk.evaluate("voicemeet.model.pool") == "lobby"
    await desk.click("#off")
    await reloaded(desk)
    assert await desk.evaluate("voicemeet.state") == "setup"


async def test_who_did_not_choose_it_is_off_duty_after_a_reload(desks: Desks) -> None:
    desk = await desks.on_duty()
    await reloaded(desk)
    assert await desk.evaluate("voicemeet.state") == "setup"


async def test_a_browser_that_was_killed_is_on_duty_again(desks: Desks, tmp_path: Path) -> None:
    assert desks.info is not None
    url = f"{desks.info.url}/desk/?test=1"
    async with Browser(url, profile=tmp_path / "profile") as desk:
        await desk.wait_for("window.voicemeet !== undefined")
        await stay_on_duty(desk)
        assert desk._process is not None
        with contextlib.suppress(BrowserError):  # it is gone before it can answer
            await desk.command("Browser.close")
        await desk._process.wait()
    async with Browser(url, profile=tmp_path / "profile") as desk:
        await desk.wait_for(f"window.voicemeet && {STATE('ready')}")
        assert desk._process is not None
        os.killpg(desk._process.pid, signal.SIGKILL)  # as a crash and a power cut do
        await desk._process.wait()
    async with Browser(url, profile=tmp_path / "profile") as desk:
        await desk.wait_for(f"window.voicemeet && {STATE('ready')}")


async def test_after_a_power_cut_the_desk_waits_for_the_hub(desks: Desks) -> None:
    # The page comes from the desk's own machine: it is there before the hub is.
    assert desks.info is not None
    url = desks.info.url
    await desks.stop_hub()
    async with running_desk(url) as address, Browser(f"{address}?test=1&duty=1") as desk:
        await desk.wait_for("document.body.dataset.state === 'offline'")
        await desks.start_hub()
        await desk.wait_for("document.body.dataset.state === 'ready'", 60)


async def test_ready_is_shown_only_when_the_server_took_the_desk(desks: Desks) -> None:
    desk = await desks.page()
    await desk.evaluate(HOLD_MATCH)
    await desk.click("#start")
    await desk.wait_for("window.held && document.getElementById('headline').innerText")
    assert await desk.evaluate("voicemeet.state") == "starting"
    await desk.evaluate("(release(), 0)")
    await desk.wait_for(STATE("ready"))


async def test_a_desk_whose_microphone_is_unplugged_does_not_ring_until_it_is_back(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await desk.evaluate(NO_DEVICES)
    await desk.wait_for(STATE("microphone_missing"))
    await caller.click("#call")
    await caller.wait_for(STATE("seeking"))
    await desk.evaluate(
        "(window.unplugged = false, navigator.mediaDevices.dispatchEvent(new Event('devicechange')), 0)"
    )
    await desk.wait_for(STATE("ringing"))


@pytest.mark.parametrize(
    ("error", "state"),
    [("NotFoundError", "microphone_missing"), ("NotReadableError", "microphone_busy")],
)
async def test_what_is_wrong_with_the_microphone_is_told_apart(desks: Desks, error: str, state: str) -> None:
    page = await desks.page()
    await page.evaluate(
        "(window.real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices),"
        f" navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', '{error}')), 0)"
    )
    await page.click("#start")
    await page.wait_for(STATE(state))
    await page.evaluate("(navigator.mediaDevices.getUserMedia = window.real, 0)")
    await page.click("#again")
    await page.wait_for(STATE("ready"))


async def test_missed_calls_are_in_this_pages_memory_until_seen(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    for calls in ("1 call", "2 calls"):
        await ring(desk, caller)
        await caller.press("Escape")
        await both(desk, caller, STATE("ready"))
        assert calls in await text(desk, "#missed-text")
    before = await desk.evaluate(KEPT)
    await desk.click("#missed-seen")
    assert not await is_shown(desk, "#missed")
    assert await desk.evaluate(KEPT) == before, "nothing was kept that could be forgotten"
    await ring(desk, caller)
    await desk.press("Escape")  # declined: whoever sat here knows
    await both(desk, caller, STATE("ready"))
    assert not await is_shown(desk, "#missed")


async def test_in_a_call_one_can_mute_and_a_second_enter_does_not_hang_up(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await ring(desk, caller)
    await desk.press("Enter")
    await desk.press("Enter")
    await both(desk, caller, STATE("talking"))
    assert await desk.evaluate("document.activeElement.id") == "headline"
    await desk.press("m")
    assert await text(desk, "#microphone") == "Microphone muted"
    assert not await desk.evaluate(f"{CALL}.stream.getAudioTracks()[0].enabled")
    await desk.click("#mute")
    assert await text(desk, "#microphone") == "Microphone open"
    assert await desk.evaluate(f"{CALL}.stream.getAudioTracks()[0].enabled")
    await desk.wait_for("/^0:0[1-9]$/.test(document.getElementById('length').innerText)")


async def test_a_notification_is_there_while_it_rings(desks: Desks) -> None:
    desk, caller = await desks.page(), await desks.on_duty("role=caller")
    await desk.evaluate(WATCH_NOTIFICATIONS)
    await desk.click("#settings-open")
    await desk.wait_for("document.getElementById('settings').open")
    await desk.click("#set-notify")
    await desk.evaluate("(document.getElementById('settings').close(), 0)")
    await desk.click("#start")
    await desk.wait_for(STATE("ready"))
    await desk.click("#settings-open")
    await desk.evaluate("(document.getElementById('report-dialog').showModal(), 0)")
    await ring(desk, caller)
    assert await desk.evaluate("document.querySelectorAll('dialog[open]').length") == 0, (
        "it would hide Answer"
    )
    assert await desk.evaluate("notified") == ["show (1) Somebody is calling · VoiceMeet desk"]
    await caller.press("Escape")
    await desk.wait_for("notified.at(-1) === 'close'")


async def test_the_sound_test_opens_the_microphone_says_so_and_closes_it(desks: Desks) -> None:
    desk = await desks.page()
    await desk.evaluate(
        "(window.opened = [], window.real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices),"
        " navigator.mediaDevices.getUserMedia = async (wanted) => {"
        " const stream = await real(wanted); opened.push(stream); return stream; }, 0)"
    )
    await desk.click("#settings-open")
    await desk.click("#test-voice")
    await desk.wait_for("document.getElementById('test-said').innerText.includes('microphone is open')")
    assert await is_shown(desk, "#microphone")
    await desk.wait_for("document.getElementById('test-level').value > 0.01")
    await desk.wait_for("document.getElementById('test-said').innerText.startsWith('Done')")
    assert await desk.evaluate("opened.every((one) => one.getTracks()[0].readyState === 'ended')")
    assert not await is_shown(desk, "#microphone")


async def test_the_page_speaks_the_browsers_language_and_the_chosen_one(desks: Desks) -> None:
    desk = await desks.page(flags=("--accept-lang=de-AT",))
    assert await desk.evaluate("document.documentElement.lang") == "de"
    assert await text(desk, "#start") == "Dienst beginnen"
    await desk.click("#settings-open")
    await desk.evaluate(
        "(() => { const select = document.getElementById('set-language'); select.value = 'it';"
        " select.dispatchEvent(new Event('change')); })()"
    )
    await desk.wait_for("document.documentElement.lang === 'it'")
    assert await text(desk, "#start") == "Inizia il servizio"
    await reloaded(desk)
    assert await text(desk, "#start") == "Inizia il servizio"


async def test_the_page_can_be_installed(desks: Desks) -> None:
    desk = await desks.page()
    manifest = await desk.command("Page.getAppManifest")
    assert manifest["errors"] == []
    assert manifest["url"].endswith("/desk/desk.webmanifest")
    assert (await desk.command("Page.getInstallabilityErrors"))["installabilityErrors"] == []


async def test_a_desk_on_duty_without_a_click_says_that_it_cannot_ring(desks: Desks) -> None:
    # A browser lets no page sound that nobody clicked.
    desk = await desks.page()
    blocked = f"{CATCH_CONTEXTS}; window.blocked = true;"
    await desk.command("Page.addScriptToEvaluateOnNewDocument", source=blocked)
    await desk.navigate(await desk.evaluate("location.href + '&duty=1'"))
    await desk.wait_for(f"window.voicemeet && {STATE('ready')}")
    await desk.wait_for(SHOWN)
    await desk.evaluate("(window.blocked = false, 0)")
    await desk.click("#headline")
    await desk.wait_for(f"!{SHOWN}")


async def test_a_missed_call_is_forgotten_when_one_is_answered_and_after_a_working_day(page: Module) -> None:
    told = await page.evaluate(
        """import('/desk/missed.js').then(({ Missed }) => {
          const missed = new Missed();
          const call = { rang: true, reason: 'no_answer', byPeer: false, name: 'Gate' };
          missed.note(call, 0);
          missed.note({ ...call, reason: 'answered_elsewhere', byPeer: true }, 1);
          missed.note({ ...call, reason: 'declined' }, 2);
          missed.note({ ...call, rang: false }, 3);
          const seen = [missed.summary(4), missed.summary(8 * 3_600_000)];
          missed.note(call, 0);
          missed.note({ ...call, answered: true, reason: 'hung_up' }, 1);
          return [...seen, missed.summary(2)];
        })"""
    )
    assert told == [{"count": 1, "at": 0, "name": "Gate"}, None, None]
