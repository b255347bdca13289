"""A real hub and real Chromium pages for the desk's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.desk.in_node import Module
from voicemeet_edge.hub.app import HubInfo, run_hub
from voicemeet_edge.hub.settings import HttpSettings, HubSettings, LimitSettings, MatchSettings, TurnSettings
from voicemeet_edge.testing.browser import Browser, chromium_path
from voicemeet_edge.testing.firefox import Firefox, firefox_path


@dataclass
class Desks:
    """A hub that can be stopped and started again, and the pages opened on it."""

    state_dir: Path
    stack: AsyncExitStack
    turn: TurnSettings = field(default_factory=TurnSettings)
    open_pools: tuple[str, ...] = ("*",)
    info: HubInfo | None = None
    base: str = ""
    """Where pages reach the hub, when not directly."""
    pages: list[Browser] = field(default_factory=list)
    _task: asyncio.Task[None] | None = None
    _port: int = 0

    async def start_hub(self) -> HubInfo:
        ready: asyncio.Future[HubInfo] = asyncio.get_running_loop().create_future()
        settings = HubSettings(
            state_dir=self.state_dir,
            http=HttpSettings(port=self._port, tls="off"),
            turn=self.turn,
            match=MatchSettings(open_pools=self.open_pools),
            # All pages of a test come from one address and want to be served at once.
            limits=LimitSettings(address_per_s=1000, address_burst=1000, session_burst=100),
        )
        self._task = asyncio.create_task(run_hub(settings, ready=ready.set_result))
        self._task.add_done_callback(lambda _: ready.cancel())  # it ended without being ready
        async with asyncio.timeout(30):
            self.info = await ready
        self._port = self.info.port
        return self.info

    async def stop_hub(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def page(self, query: str = "", *, firefox: bool = False, **options: object) -> Browser:
        """Open the desk page with the test hooks on."""
        assert self.info is not None
        url = f"{self.base or self.info.url}/desk/?test=1&{query}"
        if firefox and firefox_path() is None:
            pytest.skip("Firefox is not installed (Debian package firefox-esr)")
        browser = Firefox(url, dark=bool(options.get("dark"))) if firefox else Browser(url, **options)  # type: ignore[arg-type]
        page = await self.stack.enter_async_context(browser)
        self.pages.append(page)
        await page.wait_for("window.voicemeet !== undefined")
        return page

    async def on_duty(
        self, query: str = "", key: str = "", *, firefox: bool = False, **options: object
    ) -> Browser:
        """Open a page, give it an intercom key if there is one, and go on duty."""
        page = await self.page(query, firefox=firefox, **options)
        if key:
            await page.evaluate(f"import('/desk/keystore.js').then(m => m.remember('{key}'))")
            await page.evaluate("location.reload()")
            await page.wait_for("window.voicemeet?.model.keys.length")
        await page.click("#start")
        await page.wait_for("voicemeet.state === 'ready'")
        return page


@pytest.fixture
def page(tmp_path: Path) -> Module:
    """The page's modules without a page."""
    return Module(tmp_path)


@pytest.fixture
async def desks(tmp_path: Path) -> AsyncIterator[Desks]:
    if chromium_path() is None:
        pytest.skip("Chromium is not installed (Debian package chromium)")
    async with AsyncExitStack() as stack:
        desks = Desks(tmp_path / "hub", stack)
        stack.push_async_callback(desks.stop_hub)
        await desks.start_hub()
        yield desks
        for page in desks.pages:
            uncaught = [line for line in page.console if line.startswith("uncaught") or "security" in line]
            assert not uncaught
