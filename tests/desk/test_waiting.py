"""A desk that waits for hours: its socket dies without a word, its sound is taken away."""

from __future__ import annotations

import pytest

from tests.desk.conftest import Desks
from tests.desk.test_device import device
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.testing.proxy import FreezingProxy

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

CATCH_CONTEXTS = """(() => {
  const Real = window.AudioContext;
  window.contexts = [];
  window.blocked = false;
  window.AudioContext = class extends Real {
    constructor(...given) {
      super(...given);
      window.contexts.push(this);
      if (window.blocked) super.suspend();
    }
    resume() { return window.blocked ? new Promise(() => {}) : super.resume(); }
  };
})()"""
SHOWN = "document.getElementById('silent').checkVisibility()"


async def test_a_socket_dead_without_a_word_does_not_keep_a_call_from_ringing(desks: Desks) -> None:
    assert desks.info is not None
    async with FreezingProxy(desks.info.port) as proxy:
        desks.base = f"http://127.0.0.1:{proxy.port}"
        desk = await desks.on_duty()
        async with device(desks) as (panel, _, _):
            await panel.wait_for(Lamp.READY)
            for _ in range(2):
                assert proxy.freeze() >= 1
                panel.press()
                await desk.wait_for("voicemeet.state === 'ringing'", 15.0)
                await desk.press("Escape")
                await desk.wait_for("voicemeet.state === 'ready'")
                await panel.wait_for(Lamp.READY)


async def test_ready_is_not_shown_on_a_socket_in_doubt(desks: Desks) -> None:
    desk = await desks.on_duty()
    await desk.evaluate(
        "(() => { window.seen = []; const show = () => seen.push(document.body.dataset.state);"
        " new MutationObserver(show).observe(document.body, { attributes: true }); })()"
    )
    # The next sockets never open, and what the present one is asked is swallowed.
    await desk.evaluate(
        "(() => { WebSocket.prototype.send = () => {}; const { OPEN } = WebSocket;"
        " window.WebSocket = class { static OPEN = OPEN; readyState = 0; close() {} }; })()"
    )
    await desk.wait_for("seen.includes('offline')")


async def test_a_ring_brings_the_sound_back_that_was_taken_away(desks: Desks) -> None:
    desk = await desks.page()
    await desk.command("Page.addScriptToEvaluateOnNewDocument", source=CATCH_CONTEXTS)
    await desk.navigate(await desk.evaluate("location.href"))
    await desk.wait_for("window.voicemeet !== undefined")
    await desk.click("#start")
    await desk.wait_for("voicemeet.state === 'ready' && contexts[0].state === 'running'")
    await desk.evaluate("(contexts[0].onstatechange = null, contexts[0].suspend())")
    async with device(desks) as (panel, _, _):
        await panel.wait_for(Lamp.READY)
        panel.press()
        await desk.wait_for("voicemeet.state === 'ringing'")
        await desk.wait_for("contexts[0].state === 'running'")
        # Taken away while it rings, and this context does not come back: another one sounds.
        await desk.evaluate(
            "(() => { contexts[0].resume = () => new Promise(() => {}); return contexts[0].suspend(); })()"
        )
        await desk.wait_for("contexts.at(-1) !== contexts[0] && contexts.at(-1).state === 'running'")
        assert not await desk.evaluate(SHOWN)


async def test_a_desk_that_cannot_ring_says_so_until_it_can(desks: Desks) -> None:
    desk = await desks.page()
    await desk.command("Page.addScriptToEvaluateOnNewDocument", source=CATCH_CONTEXTS)
    await desk.navigate(await desk.evaluate("location.href"))
    await desk.wait_for("window.voicemeet !== undefined")
    await desk.click("#start")
    await desk.wait_for("voicemeet.state === 'ready' && contexts[0].state === 'running'")
    await desk.evaluate("(() => { window.blocked = true; return contexts[0].suspend(); })()")
    await desk.wait_for(SHOWN)
    await desk.evaluate("window.blocked = false")
    await desk.click("#headline")
    await desk.wait_for(f"!{SHOWN}")
