"""axe-core on every state of the desk page, and what must never be out of the window.

One browser for many states: a state is a model that `view.js` shows (`states.py`). Colours are the same in
all languages and words the same in both colour schemes, so each language is looked at in the light one, and
the contrast rule, half of axe's time, runs in English; `LOOK_AT_ALL=1` looks at each with each.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.desk.conftest import Desks
from tests.desk.states import DIALOGS, STATES, close_dialogs, open_dialog, show, speak
from voicemeet_edge.choices import Language
from voicemeet_edge.testing.browser import Browser

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

LOOK_AT_ALL = "LOOK_AT_ALL" in os.environ
AXE = Path(__file__).parent / "js" / "node_modules" / "axe-core" / "axe.min.js"
WITHOUT_CONTRAST = "rules: { 'color-contrast': { enabled: false } }, "
RUN = """axe.run(document, { %sresultTypes: ['violations'] }).then(({ violations }) =>
  violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`))"""
IN_WINDOW = """['microphone', 'hangup'].filter((id) => {
  const { top, bottom, left, right, width } = document.getElementById(id).getBoundingClientRect();
  return !(width > 0 && top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth);
})"""
# 200 % on 1280×800, small phones upright and on their side, and a tablet.
WINDOWS = [(640, 400), (320, 568), (568, 320), (360, 640), (390, 844), (844, 390), (768, 1024)]


async def with_axe(page: Browser) -> Browser:
    if not AXE.exists():
        pytest.skip("axe-core is not installed (scripts/setup test)")
    await page.evaluate(f"(() => {{ {await asyncio.to_thread(AXE.read_text)}; return true; }})()")
    return page


async def violations(page: Browser, languages: Iterable[Language]) -> dict[str, Any]:
    """Look at every state and every dialog, in every language."""
    found: dict[str, Any] = {}
    for language in languages:
        await speak(page, language)
        run = RUN % ("" if LOOK_AT_ALL or language is Language.EN else WITHOUT_CONTRAST)
        for name, model in STATES.items():
            await show(page, model)
            found[f"{language} {name}"] = await page.evaluate(run)
        for name in DIALOGS:
            await open_dialog(page, name)
            found[f"{language} dialog {name}"] = await page.evaluate(run)
            await close_dialogs(page)
    return {name: broken for name, broken in found.items() if broken}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("firefox", [False, True], ids=["chromium", "firefox"])
async def test_no_state_breaks_a_rule_of_accessibility(desks: Desks, firefox: bool, dark: bool) -> None:
    page = await with_axe(await desks.page(firefox=firefox, dark=dark))
    assert await page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") is dark
    languages = [Language.EN] if dark and not LOOK_AT_ALL else Language
    assert await violations(page, languages) == {}


async def test_a_fault_would_be_found(desks: Desks) -> None:
    page = await with_axe(await desks.page())
    await show(page, STATES["talking"])
    await page.evaluate("(document.getElementById('sentence').style.color = '#aaa', true)")
    assert "color-contrast" in str(await page.evaluate(RUN % ""))


BROKEN_WORDS = r"""(() => {
  const broken = [];
  for (const button of document.querySelectorAll('.actions button')) {
    const texts = document.createTreeWalker(button, NodeFilter.SHOW_TEXT);
    while (texts.nextNode())
      for (const word of texts.currentNode.data.matchAll(/\S+/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        if (range.getClientRects().length > 1) broken.push(word[0]);
      }
  }
  return broken;
})()"""


async def test_the_open_microphone_and_hang_up_are_always_in_the_window(desks: Desks) -> None:
    page = await desks.page()
    out = {}
    for width, height in WINDOWS:
        await page.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        for language in Language:
            await speak(page, language)
            for name, model in STATES.items():
                if not (model["call"] or {}).get("microphoneOpen"):
                    continue
                await show(page, model)
                for place in ("0", "document.body.scrollHeight"):
                    await page.evaluate(f"(scrollTo(0, {place}), true)")
                    out[f"{width}x{height} {language} {name} {place}"] = await page.evaluate(IN_WINDOW)
                wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
                out[f"{width}x{height} {language} {name} wide"] = ["wide"] if wide else []
                out[f"{width}x{height} {language} {name} broken"] = await page.evaluate(BROKEN_WORDS)
    assert [f"{name}: {ids}" for name, ids in out.items() if ids] == []
