"""Two desk pages in real Chromium, called and calling through a real hub."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from tests.desk.conftest import Desks
from voicemeet_edge.call.keys import new_key
from voicemeet_edge.hub.settings import TurnSettings
from voicemeet_edge.testing.browser import Browser

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

STATE = "voicemeet.state === '{}'".format
CALL = "voicemeet.model.call"
RECEIPT = "document.getElementById('notice').innerText.includes('Receipt')"


async def text(page: Browser, selector: str) -> str:
    shown: str = await page.evaluate(f"document.querySelector('{selector}').innerText")
    return shown


async def is_shown(page: Browser, selector: str) -> bool:
    shown: bool = await page.evaluate(f"document.querySelector('{selector}').checkVisibility()")
    return shown


async def ring(desk: Browser, caller: Browser) -> None:
    """Let the caller call and wait until the desk rings and the caller knows it."""
    await caller.click("#call")
    await desk.wait_for(STATE("ringing"))
    await caller.wait_for(f"{CALL}?.peerRings")


async def talk(desk: Browser, caller: Browser) -> None:
    """Bring two pages that are on duty into a call."""
    await ring(desk, caller)
    await desk.press("Enter")
    await both(desk, caller, STATE("talking"))
    await both(desk, caller, f"{CALL}?.words")


async def both(one: Browser, other: Browser, condition: str) -> None:
    await asyncio.gather(one.wait_for(condition), other.wait_for(condition))


async def heard(page: Browser) -> None:
    """Wait until sound with energy in it has arrived."""
    await page.wait_for("voicemeet.stats().then(s => s.packetsReceived > 50 && s.energy > 0.01)")


async def test_a_sealed_call_from_ring_to_hang_up(desks: Desks) -> None:
    key = new_key().reveal()
    desk, caller = await desks.on_duty(key=key), await desks.on_duty("role=caller", key=key)
    assert await is_shown(desk, "#off")
    await ring(desk, caller)
    assert "Somebody is calling" in await text(desk, "#say-now")
    assert await desk.evaluate("document.activeElement.id") == "answer"
    assert await text(caller, "#headline") == "Ringing there"
    # Nobody's microphone is open before the call is taken.
    for page in (desk, caller):
        assert not await page.evaluate(f"{CALL}.microphoneOpen")
        assert not await is_shown(page, "#microphone")
    await desk.press("Enter")
    await both(desk, caller, STATE("talking"))
    for page in (desk, caller):
        assert await is_shown(page, "#microphone")
        assert await page.evaluate(f"{CALL}.envelope.sealed && {CALL}.envelope.opened > 0")
    await both(desk, caller, f"{CALL}?.words")
    assert await text(desk, "#words-list") == await text(caller, "#words-list") != ""
    await heard(desk)
    await heard(caller)
    await desk.press("Escape")
    await both(desk, caller, STATE("ended"))
    assert await text(desk, "#sentence") == "You hung up."
    assert await text(caller, "#sentence") == "The other side hung up."
    assert not await is_shown(desk, "#microphone")
    await both(desk, caller, STATE("ready"))
    assert await desk.evaluate("document.getElementById('voice').srcObject") is None


async def test_every_packet_has_one_size(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await talk(desk, caller)
    for page in (desk, caller):
        await heard(page)
        sizes = await page.evaluate(
            "voicemeet.stats().then(({ bytesSent, packetsSent }) => bytesSent % packetsSent)"
        )
        assert sizes == 0


async def test_nothing_rings_for_a_caller_who_never_appears(desks: Desks) -> None:
    desk, nobody = await desks.on_duty("helloS=1"), await desks.page()
    await nobody.evaluate(
        """(async () => {
          const { Verbs, newTicket } = await import('/desk/verbs.js');
          const config = await (await fetch('/desk/config.json')).json();
          const verbs = new Verbs(config.verbs, config.apikey);
          const { device_token: token } = await verbs.ask('session', {});
          const wanted = { ticket: newTicket(), pool: 'frontdesk', role: 'caller' };
          return verbs.ask('match', wanted, token);
        })()"""
    )
    await desk.evaluate(
        "window.states = [], new MutationObserver(() => states.push(voicemeet.state))"
        ".observe(document.body, { attributes: true }), 0"
    )
    await desk.wait_for("voicemeet.model.silentCallers === 1")
    assert set(await desk.evaluate("states")) <= {"ready"}
    await talk(desk, await desks.on_duty("role=caller"))


GHOSTS = """(async () => {
  const { Verbs, newTicket } = await import('/desk/verbs.js');
  const config = await (await fetch('/desk/config.json')).json();
  const verbs = new Verbs(config.verbs, config.apikey);
  for (let number = 0; number < 4; number += 1) {
    const { device_token: token } = await verbs.ask('session', {});
    await verbs.ask('match', { ticket: newTicket(), pool: 'frontdesk', role: 'caller' }, token);
  }
})()"""


async def test_callers_that_say_nothing_do_not_keep_the_desk_from_one_that_does(desks: Desks) -> None:
    # Fails when the desk waits for a caller that is only arriving (arrivals.js): ten seconds for each.
    desk, ghosts = await desks.on_duty("helloS=60"), await desks.page()
    caller = await desks.on_duty("role=caller")
    await ghosts.evaluate(GHOSTS.replace("number < 4", "number < 3"))
    await talk(desk, caller)


async def test_the_page_says_that_callers_come_and_say_nothing(desks: Desks) -> None:
    desk, ghosts = await desks.on_duty("helloS=1"), await desks.page()
    await ghosts.evaluate(GHOSTS)
    await desk.wait_for("document.getElementById('sentence').innerText.includes('say nothing')")


async def test_a_relayed_call_shows_no_address(desks: Desks) -> None:
    if shutil.which("turnserver") is None:
        pytest.skip("coturn is not installed (Debian package coturn)")
    await desks.stop_hub()
    desks.turn = TurnSettings(provider="coturn", port=0, min_port=49152, max_port=49999)
    await desks.start_hub()
    desk, caller = await desks.on_duty("policy=relay"), await desks.on_duty("role=caller&policy=relay")
    await talk(desk, caller)
    for page in (desk, caller):
        await heard(page)
        assert await page.evaluate("voicemeet.stats().then(s => s.path)") == "relay"
        kinds = await page.evaluate(
            f"{CALL}.media.connection.remoteDescription.sdp.match(/ typ \\w+/g) ?? []"
        )
        assert set(kinds) <= {" typ relay"}


async def test_declining_and_not_answering(desks: Desks) -> None:
    desk, caller = await desks.on_duty("ringS=2"), await desks.on_duty("role=caller")
    await ring(desk, caller)
    await desk.click("#hangup")
    await caller.wait_for(STATE("ended"))
    assert await text(caller, "#sentence") == "The other side declined the call."
    await both(desk, caller, STATE("ready"))
    await ring(desk, caller)
    await both(desk, caller, STATE("ended"))
    assert await text(desk, "#sentence") == "Nobody answered in time."
    await both(desk, caller, STATE("ready"))


async def test_a_caller_can_stop_looking(desks: Desks) -> None:
    caller = await desks.on_duty("role=caller")
    await caller.press("Tab")
    await caller.click("#call")
    await caller.wait_for(STATE("seeking"))
    await caller.press("Escape")
    await caller.wait_for(STATE("ready"))
    desk = await desks.on_duty()
    assert await desk.evaluate("voicemeet.state") == "ready"
    await talk(desk, caller)


async def test_strangers_meet_without_ringing(desks: Desks) -> None:
    one, other = await desks.on_duty("role=either&pool=lobby"), await desks.on_duty("role=either&pool=lobby")
    await one.click("#call")
    await other.click("#call")
    await both(one, other, STATE("talking"))
    await heard(one)
    await heard(other)


async def test_a_report_ends_the_call_and_gives_a_receipt(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await talk(desk, caller)
    await desk.press("r")
    await desk.wait_for("document.getElementById('report-dialog').open")
    await desk.press("Escape")  # a question, and not a second key for hanging up
    await desk.wait_for("!document.getElementById('report-dialog').open")
    assert await desk.evaluate("voicemeet.state") == "talking"
    await desk.press("r")
    await desk.click("#report-dialog .stop")
    await desk.wait_for(RECEIPT)
    assert await is_shown(desk, "#notice")
    assert not await is_shown(desk, "#report")
    await caller.wait_for(STATE("ended"))
    # Who was reported is not told so, and may report as well.
    assert await text(caller, "#sentence") == "The other side hung up."
    await caller.click("#report")
    await caller.click("#report-dialog .stop")
    await caller.wait_for(RECEIPT)


async def test_a_report_waits_for_the_server(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await talk(desk, caller)
    await desks.stop_hub()
    await desk.press("r")
    await desk.click("#report-dialog .stop")
    await desk.wait_for("voicemeet.model.report?.[0] === 'report.waits'")
    await desks.start_hub()
    await desk.wait_for(RECEIPT, 60)


@pytest.mark.parametrize("keys", ["desk", "caller", "different"])
async def test_ends_whose_keys_do_not_fit_never_connect(desks: Desks, keys: str) -> None:
    desk_key = new_key().reveal() if keys != "caller" else ""
    caller_key = new_key().reveal() if keys != "desk" else ""
    desk, caller = await desks.on_duty(key=desk_key), await desks.on_duty("role=caller", key=caller_key)
    await caller.click("#call")
    await both(desk, caller, STATE("distrust"))
    assert "key" in await text(desk, "#sentence")
    assert "key" in await text(caller, "#sentence")
    assert not await is_shown(desk, "#microphone")
    await both(desk, caller, STATE("ready"))
    # What to do about it stays until somebody has seen it, and the desk rings meanwhile.
    for page in (desk, caller):
        assert await is_shown(page, "#mismatch")
        assert "key" in await text(page, "#mismatch-text")
        await page.click("#mismatch-seen")
        assert not await is_shown(page, "#mismatch")


async def test_a_page_that_is_closed_says_goodbye(desks: Desks) -> None:
    key = new_key().reveal()
    desk, caller = await desks.on_duty(key=key), await desks.on_duty("role=caller", key=key)
    await talk(desk, caller)
    await caller.navigate("about:blank")
    await desk.wait_for(STATE("ended"))
    assert await text(desk, "#sentence") == "The other side hung up."


async def test_a_page_that_was_about_to_go_and_stays_has_hung_up_and_is_ready_again(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await talk(desk, caller)
    await desk.evaluate("dispatchEvent(new Event('beforeunload'))")
    await both(desk, caller, STATE("ended"))
    assert await text(caller, "#sentence") == "The other side hung up."
    assert await desk.evaluate(f"{CALL} === null && !document.getElementById('voice').srcObject")
    await both(desk, caller, STATE("ready"))
    await talk(desk, caller)


async def test_a_lost_path_comes_back_with_the_same_words(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await talk(desk, caller)
    words = await text(desk, "#words-list")
    for page in (desk, caller):  # once the offerer notices, once the other side does
        await page.evaluate(f"{CALL}.media.connection.close(), {CALL}.onMedia('lost')")
        await page.wait_for(STATE("talking"))
        await both(desk, caller, f"{CALL}.connected && {CALL}.phase === 'talking'")
        await heard(desk)
        await heard(caller)
    assert await caller.evaluate(f"{CALL}.negotiation.attempt") == 2
    assert await text(desk, "#words-list") == await text(caller, "#words-list") == words


async def test_a_path_that_stays_away_ends_the_call(desks: Desks) -> None:
    desk, caller = await desks.on_duty("reconnectS=3"), await desks.on_duty("role=caller")
    await talk(desk, caller)
    await caller.evaluate(f"{CALL}.endNow = () => {{}}, {CALL}.media.drop(), {CALL}.channel.leave()")
    await desk.wait_for(STATE("reconnecting"))
    await desk.wait_for(STATE("ended"))
    assert await text(desk, "#sentence") == "The line did not come back."


async def test_the_longest_call_length_ends_the_call(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await talk(desk, caller)
    await desk.evaluate(f"{CALL}.timer('life', 0.5, () => {CALL}.end('time_limit'))")
    await caller.wait_for(STATE("ended"))
    assert await text(caller, "#sentence") == "The longest call length was reached."


async def test_a_call_is_renewed(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await talk(desk, caller)
    token = await desk.evaluate(f"{CALL}.token")
    await desk.evaluate(f"{CALL}.renew()")
    assert await desk.evaluate(f"{CALL}.token") != token
    assert await desk.evaluate(f"{CALL}.channel.token === {CALL}.token")
    await desk.press("Escape")
    await caller.wait_for(STATE("ended"))


async def test_a_refused_microphone_is_said_at_once(desks: Desks) -> None:
    page = await desks.page(microphone=False)
    await page.click("#start")
    await page.wait_for(STATE("microphone_denied"))
    assert "the lock beside the address" in await text(page, "#sentence")
    assert await is_shown(page, "#again")


async def test_a_microphone_that_is_gone_ends_the_call(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await ring(desk, caller)
    refuse = "Promise.reject(new DOMException('no', 'NotAllowedError'))"
    await desk.evaluate(f"navigator.mediaDevices.getUserMedia = () => {refuse}, 0")
    await desk.press("Enter")
    await both(desk, caller, STATE("ended"))
    assert await text(desk, "#sentence") == "The browser did not give the microphone."
    assert await text(caller, "#sentence") == "The other side has no microphone."


async def test_the_desk_is_back_when_the_hub_is(desks: Desks) -> None:
    desk = await desks.on_duty()
    await desks.stop_hub()
    await desk.wait_for(STATE("offline"))
    assert "nobody can reach it" in await text(desk, "#sentence")
    await desks.start_hub()
    await desk.wait_for(STATE("ready"), 60)
    await talk(desk, await desks.on_duty("role=caller"))


async def test_the_key_is_entered_and_forgotten_on_the_page(desks: Desks) -> None:
    page = await desks.page()
    await page.click("summary")
    await page.click("#key")
    await page.type("too short")
    await page.click("#remember")
    await page.wait_for("document.getElementById('key-error').innerText.includes('43')")
    await page.evaluate("document.getElementById('key').value = ''")
    await page.click("#key")
    await page.type(new_key().reveal())
    await page.click("#remember")
    await page.wait_for("document.getElementById('seal').dataset.sealed === 'true'")
    assert await page.evaluate("document.getElementById('key').value") == ""
    await page.click("#forget")
    await page.wait_for("document.getElementById('seal').dataset.sealed === 'false'")


async def test_going_off_duty_leaves_nothing_waiting(desks: Desks) -> None:
    desk = await desks.on_duty()
    await desk.click("#off")
    await desk.wait_for(STATE("setup"))
    caller = await desks.on_duty("role=caller")
    await caller.click("#call")
    await caller.wait_for(STATE("seeking"))
    await desk.click("#start")
    await desk.wait_for(STATE("ringing"))


async def test_the_page_fits_a_phone_at_double_size(desks: Desks) -> None:
    page = await desks.page(size=(780, 1400), scale=2.0)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.click("summary")
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
