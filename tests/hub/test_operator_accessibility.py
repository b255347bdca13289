"""The operator's page in every language and in both browsers: axe-core on every state, reached by clicks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.desk.test_accessibility import LOOK_AT_ALL, RUN, WITHOUT_CONTRAST, with_axe
from tests.hub.fleet_picture import tell_health
from tests.hub.running import RunningHub, loopback, run
from voicemeet_edge.choices import Language
from voicemeet_edge.hub.pass_desk import make_pass, open_store
from voicemeet_edge.hub.settings import MatchSettings
from voicemeet_edge.languages.catalogue import text
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.browser import Browser, chromium_path
from voicemeet_edge.testing.firefox import Firefox, firefox_path

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

SHOWN = "document.getElementById('{}')?.hidden === false"
SUBMIT = "(document.getElementById('{}').requestSubmit(), true)"
PASS = "(document.getElementById('operator-pass').value = '{}', true)"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    async with run(loopback(tmp_path / "state", match=MatchSettings())) as hub:
        yield hub


class Look:
    """One page, and what axe finds on it."""

    def __init__(self, page: Browser, hub: RunningHub, shown: Secret) -> None:
        self.page, self.hub, self.shown = page, hub, shown
        self.found: dict[str, Any] = {}
        self._run = ""
        self._language = Language.EN

    async def speak(self, language: Language) -> None:
        """Open the page anew, signed out, in this language."""
        self._language = language
        self._run = RUN % ("" if LOOK_AT_ALL or language is Language.EN else WITHOUT_CONTRAST)
        kept = json.dumps(json.dumps({"language": language.value}))
        await self.page.evaluate(
            f"(sessionStorage.clear(), localStorage.setItem('voicemeet-desk', {kept}), 1)"
        )
        await self.page.navigate(f"{self.hub.info.url}/operator/?{language.value}")
        await self.page.wait_for(SHOWN.format("login"))
        await with_axe(self.page)

    async def at(self, state: str) -> None:
        """Look at what is shown now."""
        if broken := await self.page.evaluate(self._run):
            self.found[f"{self._language} {state}"] = broken

    async def add(self, role: str, name: str) -> None:
        """Add a door or a desk."""
        await self.page.click(f'[name="role"][value="{role}"]')
        await self.page.evaluate(f"(document.getElementById('name').value = '{name}', true)")
        await self.page.evaluate(SUBMIT.format("add"))
        await self.page.wait_for(f"document.getElementById('made-title').textContent === '{name}'")

    async def walk(self) -> None:
        """Go through all that the page can show."""
        page = self.page
        await self.at("login")
        await page.evaluate(PASS.format("nonsense"))
        await page.evaluate(SUBMIT.format("login"))
        await page.wait_for(SHOWN.format("fault"))
        refused = await page.evaluate("document.getElementById('fault').textContent")
        assert refused == text(self._language, "operator.refused")
        await self.at("refused")
        await page.evaluate(PASS.format(self.shown.reveal()))
        await page.evaluate(SUBMIT.format("login"))
        await page.wait_for(SHOWN.format("office"))
        await self.at("nothing there")
        await page.click("#key-type")
        await self.at("typing a key")
        await page.click("#key-new")
        await page.wait_for(SHOWN.format("key-shown"))
        await self.at("a new key")
        for role, name in (("caller", "Side entrance"), ("answerer", "Reception")):
            await self.add(role, name)
            await self.at(f"a new {role}")
        for name in ("Side entrance", "Reception"):
            button = f"#ends tbody tr:has(button[aria-label*='{name}']) button"
            await page.click(button)
            await self.at("really?")
            await page.click(button)
            await page.wait_for(f'!document.querySelector("{button}")')
        await page.wait_for(SHOWN.format("none"))
        await page.evaluate("(document.getElementById('gone').open = true)")
        await self.at("taken back")
        await page.evaluate("(document.getElementById('fleet-key').open = true)")
        await page.click("#fleet-key-type")
        await self.at("typing a fleet key")
        await page.click("#fleet-key-new")
        await page.wait_for(SHOWN.format("fleet-key-shown"))
        await self.at("a new fleet key")
        await page.click("#fleet-key-forget")
        await page.wait_for("document.getElementById('fleet-key-forget').hidden")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("browser", ["chromium", "firefox"])
async def test_no_state_breaks_a_rule_of_accessibility(hub: RunningHub, browser: str, dark: bool) -> None:
    if (firefox_path() if browser == "firefox" else chromium_path()) is None:
        pytest.skip(f"{browser} is not installed")
    async with open_store(hub.settings.state_dir) as store:
        shown = await make_pass(store, "", None, "anna")
        await tell_health(hub, store)
    url = f"{hub.info.url}/operator/"
    page = Firefox(url, dark=dark) if browser == "firefox" else Browser(url, dark=dark)
    async with page:
        look = Look(page, hub, shown)
        for language in [Language.EN] if dark and not LOOK_AT_ALL else Language:
            await look.speak(language)
            await look.walk()
            assert await page.evaluate("document.documentElement.lang") == language.value
            assert await page.evaluate("document.querySelectorAll('#fleet-list tbody tr').length") == 3
        assert look.found == {}
        assert not [line for line in page.console if line.startswith("uncaught") or "security" in line]
