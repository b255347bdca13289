"""Two desks in browsers and a real device: one declines in the instant in which the other answers."""

from __future__ import annotations

import asyncio

import pytest

from tests.desk.conftest import Desks
from tests.desk.test_device import device
from voicemeet_edge.call.commands import WordsKnown
from voicemeet_edge.call.machine import State
from voicemeet_edge.call.observed import StateChanged
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.reasons import EndReason

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

# The page draws an end as often as it likes; it is one end.
REMEMBER_ENDS = """(() => {
  window.ends = [];
  let before = voicemeet.state;
  new MutationObserver(() => {
    if (voicemeet.state === 'ended' && before !== 'ended') ends.push(voicemeet.model.last.reason);
    before = voicemeet.state;
  }).observe(document.body, { attributes: true, attributeFilter: ['data-state'] });
})()"""
CLICK = "document.getElementById('{}').click()"


async def test_a_decline_that_crosses_an_answer_ends_no_call(desks: Desks) -> None:
    pages = [await desks.on_duty(), await desks.on_duty()]
    for page in pages:
        await page.evaluate(REMEMBER_ENDS)
    async with device(desks) as (panel, _card, told):
        await panel.wait_for(Lamp.READY)
        for answers, declines, is_answer_first in (
            (pages[0], pages[1], False),
            (pages[0], pages[1], True),
            (pages[1], pages[0], False),
            (pages[1], pages[0], True),
        ):
            told.clear()
            panel.press()
            for page in pages:
                await page.wait_for("voicemeet.state === 'ringing'")
            clicks = [answers.evaluate(CLICK.format("answer")), declines.evaluate(CLICK.format("hangup"))]
            await asyncio.gather(*(clicks if is_answer_first else reversed(clicks)))
            await answers.wait_for("voicemeet.state === 'talking' && voicemeet.model.call.words")
            await panel.wait_for(Lamp.MICROPHONE_OPEN)
            await declines.wait_for("voicemeet.state === 'ready'")
            assert await answers.evaluate("voicemeet.state") == "talking", "a decline ends no other call"
            assert len([one for one in told if isinstance(one, WordsKnown)]) == 1, "one call"
            await answers.evaluate(CLICK.format("hangup"))
            await panel.wait_for(Lamp.READY)
            ends = [one.reason for one in told if isinstance(one, StateChanged) and one.state is State.ENDED]
            assert ends == [EndReason.PEER_HUNG_UP]
            await answers.wait_for("voicemeet.state === 'ready'")
            # Whichever was there first: it was declined here, or answered elsewhere already.
            (how,) = await declines.evaluate("ends.splice(0)")
            assert how in ("declined", "answered_elsewhere")
            assert await answers.evaluate("ends.splice(0)") == ["hung_up"]
