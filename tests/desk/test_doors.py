"""Doors at the desk: their names, calling one, opening one, and what a desk says about itself meanwhile."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.desk.conftest import Desks
from tests.desk.in_node import Module
from tests.desk.test_admission import closed, known, open_link, store  # noqa: F401 - a fixture
from tests.desk.test_calls import CALL, STATE, both, is_shown, ring, text
from tests.desk.test_device import device
from tests.desk.test_modules import script
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.keys import new_key
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.hub.pass_desk import make_pass

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

KEY = bytes(range(32))
POOL = "frontdesk"

NAMED = """import('/desk/negotiation.js').then(({ Negotiation }) => {
  const hello = Negotiation.prototype.hello;
  Negotiation.prototype.hello = function (reply) {
    const [send, event, fields] = hello.call(this, reply);
    return [send, event, { ...fields, name: 'Side entrance' }];
  };
  return true;
})"""
READ_OUT = """(() => {
  window.readOut = [];
  new MutationObserver(() => readOut.push(document.getElementById('say-now').textContent))
    .observe(document.getElementById('say-now'), { childList: true, characterData: true, subtree: true });
})()"""
WATCH_MATCHES = """(() => {
  const real = window.fetch;
  window.said = [];
  window.fetch = (url, options) => {
    if (String(url).endsWith('/match')) said.push(JSON.parse(options.body).state ?? 'free');
    return real(url, options);
  };
})()"""


def label(name: str, pool: str = POOL) -> str:
    """A door's name as the contract seals it for the list."""
    key = HKDF(SHA256(), 32, pool.encode(), b"voicemeet-edge v1 door name").derive(KEY)
    nonce = bytes(12)
    sealed = nonce + AESGCM(key).encrypt(nonce, name.encode().ljust(128, b"\0"), pool.encode())
    return "voicemeet-name:1:" + base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


async def test_a_name_opens_under_the_key_of_its_building_only(page: Module) -> None:
    labels = [label("Seiteneingang ü"), label("Gate", "backdoor"), "Gate", label("Gate")[:-2] + "AA"]
    labels += ["voicemeet-name:1:", "voicemeet-name:1:!", label("two\nlines")]
    found = await page.evaluate(
        script(
            """
            const { nameOf } = await import('/desk/door_names.js');
            const key = await importKey(bytes(hex));
            const other = await importKey(bytes('00'.repeat(32)));
            return {
              sealed: await Promise.all(labels.map((label) => nameOf(label, [other, key], 'frontdesk'))),
              open: await Promise.all(labels.map((label) => nameOf(label, [], 'frontdesk'))),
            };""",
            labels=labels,
            hex=KEY.hex(),
        )
    )
    assert found["sealed"] == ["Seiteneingang ü", "", "", "", "", "", ""]
    assert found["open"] == ["", "", "Gate", "", "", "", ""]


async def test_only_the_last_click_opens_the_door_and_only_at_once(page: Module) -> None:
    told = await page.evaluate(
        script(
            """
            const { DoorRelease } = await import('/desk/door_release.js');
            let made = 0;
            const door = new DoorRelease(() => String((made += 1)).repeat(32));
            const [one, two, three] = ['1', '2', '3'].map((digit) => digit.repeat(32));
            const challenge = 'c'.repeat(32);
            return {
              unready: door.click(0),
              ready: [door.receive({ state: 'ready' }, 0), door.shown.state],
              click: door.click(1000),
              twice: door.click(1001),
              foreign: door.receive({ state: 'challenge', request: two, challenge }, 1100),
              answer: door.receive({ state: 'challenge', request: one, challenge }, 1200),
              replay: door.receive({ state: 'challenge', request: one, challenge: 'd'.repeat(32) }, 1300),
              open: [door.receive({ state: 'open', request: one, seconds: 3 }, 1400), door.shown.state],
              again: door.click(1500),
              closed: [door.receive({ state: 'closed', request: one }, 4400), door.shown.state],
              second: door.click(5000),
              late: door.receive({ state: 'challenge', request: two, challenge }, 7001),
              silent: [door.giveUp(), door.shown.state],
              after: [door.receive({ state: 'open', request: two }, 9100), door.shown.state],
              third: door.click(9200),
              refused: [door.receive({ state: 'refused', request: three, reason: 'no' }, 9300), door.shown],
            };"""
        )
    )
    first, second, third = ("1" * 32), ("2" * 32), ("3" * 32)
    assert told == {
        "unready": None,
        "ready": [None, "ready"],
        "click": {"request": first},
        "twice": None,
        "foreign": None,
        "answer": {"request": first, "challenge": "c" * 32},
        "replay": None,
        "open": [None, "open"],
        "again": None,
        "closed": [None, "closed"],
        "second": {"request": second},
        "late": None,
        "silent": [None, "silent"],
        "after": [None, "silent"],
        "third": {"request": third},
        "refused": [None, {"state": "refused", "reason": "no"}],
    }


async def test_the_hours_of_a_desk_may_go_over_midnight(page: Module) -> None:
    days = [("08:00", "17:00"), ("22:00", "06:30")]
    found = await page.evaluate(
        script(
            """
            const { isWithin } = await import('/desk/away.js');
            const at = (hour, minute) => new Date(2026, 0, 1, hour, minute);
            return days.map(([from, to]) =>
              [[7, 59], [8, 0], [16, 59], [17, 0], [23, 0], [6, 29], [6, 30]]
                .map((time) => isWithin({ from, to }, at(...time))));""",
            days=days,
        )
    )
    assert found == [
        [False, True, True, False, False, False, False],
        [False, False, False, False, True, True, False],
    ]


async def test_the_doors_name_is_the_headline_the_title_and_what_is_read_out(desks: Desks) -> None:
    key = new_key().reveal()
    desk, caller = await desks.on_duty(key=key), await desks.on_duty("role=caller", key=key)
    await caller.evaluate(NAMED)
    await desk.evaluate(READ_OUT)
    await ring(desk, caller)
    assert await text(desk, "#headline") == "Side entrance"
    assert len(await desk.evaluate("readOut")) == 1, "the name comes with the ring and not after it"
    assert await text(desk, "#kicker") == "Somebody is calling"
    assert await desk.evaluate("document.title") == "(1) Side entrance is calling · VoiceMeet desk"
    assert (await text(desk, "#say-now")).startswith("Side entrance is calling.")
    await caller.press("Escape")
    await both(desk, caller, STATE("ready"))
    assert "Side entrance" in await text(desk, "#missed-text")


async def test_a_real_door_says_its_name_and_is_opened_by_a_click(desks: Desks) -> None:
    key = new_key().reveal()
    desk = await desks.on_duty(key=key)
    async with device(desks, key, name="Side entrance", relay="GPIO21") as (panel, _, _):
        panel.has_door = True
        await panel.wait_for(Lamp.READY)
        panel.press()
        await desk.wait_for(STATE("ringing"))
        await desk.wait_for("document.getElementById('headline').innerText === 'Side entrance'")
        assert not await is_shown(desk, "#open"), "only while they talk"
        await desk.press("Enter")
        await desk.wait_for(STATE("talking"))
        await desk.wait_for("document.getElementById('open').checkVisibility()")
        assert panel.opened == []
        await desk.click("#open")
        await desk.wait_for("document.getElementById('door').innerText === 'The door is open.'")
        assert len(panel.opened) == 1
        assert await desk.evaluate("document.getElementById('open').disabled")
        await desk.press("Escape")
        await desk.wait_for(STATE("ended"))
        assert not await is_shown(desk, "#door")


async def test_without_an_intercom_key_there_is_no_door_to_open(desks: Desks) -> None:
    desk = await desks.on_duty()
    async with device(desks, name="Side entrance", relay="GPIO21") as (panel, _, _):
        panel.has_door = True
        await panel.wait_for(Lamp.READY)
        panel.press()
        await desk.wait_for(STATE("ringing"))
        await desk.press("Enter")
        await desk.wait_for(STATE("talking"))
        await desk.wait_for(f"{CALL}?.words")
        assert not await is_shown(desk, "#open")
        await desk.evaluate(f"({CALL}.onDoor({{ state: 'ready' }}), 0)")
        assert await desk.evaluate(f"{CALL}.door") is None, "without a seal that could be anybody"
        await desk.evaluate(f"({CALL}.release.receive({{ state: 'ready' }}, 0), {CALL}.openDoor(), 0)")
        assert await desk.evaluate(f"{CALL}.door.state") == "ready", "nothing was asked for"


async def test_a_desk_says_whether_it_is_free_busy_or_away(desks: Desks) -> None:
    desk, caller = await desks.on_duty(), await desks.on_duty("role=caller")
    await desk.evaluate(WATCH_MATCHES)
    await ring(desk, caller)
    await desk.wait_for("said.at(-1) === 'busy'")
    await caller.press("Escape")
    await both(desk, caller, STATE("ready"))
    await desk.wait_for("said.at(-1) === 'free'")
    await desk.click("#disturb")
    await desk.wait_for("said.at(-1) === 'away'")
    assert await text(desk, "#headline") == "Do not disturb"
    await caller.click("#call")
    await caller.wait_for(STATE("seeking"))
    assert await desk.evaluate("voicemeet.state") == "disturb"
    await desk.click("#free")
    await desk.wait_for(STATE("ringing"))


async def test_a_second_caller_is_told_to_the_desk_that_talks(desks: Desks) -> None:
    desk = await desks.on_duty()
    told = json.dumps({"status": "waiting", "poll_after_s": 0.2, "callers": 1, "doors": 2, "wait_token": ""})
    caller = await desks.on_duty("role=caller")
    await ring(desk, caller)
    await desk.evaluate(
        "(() => { const real = window.fetch; window.fetch = async (url, options) =>"
        f" String(url).endsWith('/match') ? new Response('{told}') : real(url, options); }})()"
    )
    await desk.press("Enter")
    await both(desk, caller, STATE("talking"))
    await desk.wait_for("document.getElementById('waiting').checkVisibility()")
    assert await text(desk, "#waiting") == "1 more is waiting"
    assert not await is_shown(desk, "#open"), "this end has no lock"
    assert await desk.evaluate(f"{CALL}.door") is None


async def test_a_desk_calls_a_door_by_its_name_and_announces_there(closed: Desks) -> None:  # noqa: F811
    key, database = new_key().reveal(), await store(closed)
    desk_pass = await make_pass(database, POOL, Role.ANSWERER, "desk")
    door_pass = await make_pass(database, POOL, Role.CALLER, "door")
    await known(closed, door_pass)
    desk = await open_link(closed, desk_pass)
    await desk.evaluate(f"import('/desk/keystore.js').then((m) => m.remember('{key}'))")
    await desk.evaluate("(location.reload(), 0)")
    await desk.wait_for("window.voicemeet?.model.keys.length && voicemeet.model.pass")
    await desk.click("#start")
    await desk.wait_for(STATE("ready"))
    await desk.wait_for("document.getElementById('headline').innerText === 'No door on line'")
    shown = door_pass.reveal()
    async with device(closed, key, name="Side entrance", shown_pass=shown) as (panel, _, told):
        await panel.wait_for(Lamp.READY)
        await desk.wait_for("document.getElementById('doors').innerText === '1 door on line'")
        await desk.wait_for("document.getElementById('door-rows').innerText.includes('Side entrance')")
        await desk.click("[data-kind=call]")
        await panel.wait_for(Lamp.RINGING)
        panel.press()
        await desk.wait_for(STATE("talking"))
        await desk.press("Escape")
        await desk.wait_for(STATE("ready"))
        await panel.wait_for(Lamp.READY)
        told.clear()
        await desk.wait_for("document.querySelector('[data-kind=announce]') !== null")
        await desk.click("[data-kind=announce]")
        await desk.wait_for("document.getElementById('kicker').innerText === 'Announcing'")
        assert panel.lamp is not Lamp.MICROPHONE_OPEN
