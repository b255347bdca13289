"""A real Firefox for tests, driven over WebDriver BiDi; it does what `Browser` does with Chromium.

The microphone is Firefox's own test tone, the permission question is answered yes, and loopback addresses are
allowed as ICE candidates.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from typing_extensions import override
from websockets.asyncio.client import connect

from voicemeet_edge.testing.browser import DESK_HOOKS, MAX_MESSAGE, Browser, BrowserError

_PREFERENCES: dict[str, object] = {
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "media.peerconnection.ice.loopback": True,
    "media.autoplay.default": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "toolkit.telemetry.enabled": False,
    "network.proxy.type": 0,
    "remote.prefs.recommended": True,
}


def firefox_path() -> str | None:
    """Return where Firefox is, or None: tests that need it skip with a sentence then."""
    return os.environ.get("FIREFOX") or shutil.which("firefox-esr") or shutil.which("firefox")


class Firefox(Browser):
    """One Firefox with one page."""

    def __init__(
        self, url: str, *, dark: bool = False, insecure: bool = False, downloads: Path | None = None
    ) -> None:
        """Take the URL that is opened before `async with` hands the page over, and its colours.

        Args:
            url: the same.
            dark: ask the page for its dark colours.
            insecure: take any certificate, as after a click on “Accept the Risk and Continue”.
            downloads: folder into which files are saved without a question.
        """
        super().__init__(url, dark=dark, downloads=downloads)
        self._insecure = insecure
        self._context = ""

    @override
    async def evaluate(self, script: str) -> Any:
        reply = await self.command(
            "script.evaluate",
            expression=f"Promise.resolve({script}).then((value) => JSON.stringify(value ?? null))",
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        if reply["type"] == "exception":
            raise BrowserError(f"the script threw: {reply['exceptionDetails']['text']}")
        return json.loads(reply["result"].get("value", "null"))

    @override
    async def click(self, selector: str) -> None:
        name = json.dumps(selector)
        if not await self.evaluate(f"document.querySelector({name}).checkVisibility()"):
            raise BrowserError(f"{selector} is not visible")
        await self.evaluate(f"document.querySelector({name}).click()")

    @override
    async def navigate(self, url: str) -> None:
        await self.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def reload(self) -> None:
        """Load the page anew, as a person would."""
        await self.command("browsingContext.reload", context=self._context, wait="complete")

    @override
    async def screenshot(self, path: Path) -> None:
        reply = await self.command("browsingContext.captureScreenshot", context=self._context)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(reply["data"]))

    @override
    async def _start(self) -> None:
        path = firefox_path()
        if path is None:
            raise BrowserError("Firefox is not installed")
        self._profile = await asyncio.to_thread(_profile, self._dark, self._downloads)
        self._process = await asyncio.create_subprocess_exec(
            path,
            *(
                "--headless",
                "--no-remote",
                "--remote-debugging-port=0",
                "--profile",
                self._profile,
                "about:blank",
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that its helpers can be ended with it
            env={**os.environ, "HOME": self._profile, "MOZ_HEADLESS": "1"},
        )
        endpoint = await self._endpoint(self._process, "WebDriver BiDi listening on ")
        self._socket = await connect(
            f"{endpoint}/session", max_size=MAX_MESSAGE, proxy=None, ping_interval=None
        )
        self._tasks.append(asyncio.create_task(self._receive(self._socket)))
        wanted = {"alwaysMatch": {"acceptInsecureCerts": True}} if self._insecure else {}
        await self.command("session.new", capabilities=wanted)
        await self.command("script.addPreloadScript", functionDeclaration=f"() => {{ {DESK_HOOKS} }}")
        await self.command("session.subscribe", events=["log.entryAdded"])
        self._context = (await self.command("browsingContext.getTree"))["contexts"][0]["context"]
        await self.navigate(self._url)

    @override
    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "log.entryAdded" and params.get("text") != _OF_PRELOADING:
            text = str(params.get("text"))
            thrown = params.get("type") == "javascript" and not text.startswith(_OF_CONNECTIONS)
            self.console.append(f"{'uncaught' if thrown else params.get('level')}: {text}")


_OF_CONNECTIONS = ("Firefox can’t establish a connection", "The connection to ws")
"""What Firefox reports like an exception though nothing was thrown: a server that went, a page that went."""

_OF_PRELOADING = 'Error: Permission denied to access property "length"'
"""Firefox's own fault in a new document's realm: there it may not read the preload script's arguments."""


def _profile(dark: bool, downloads: Path | None) -> str:
    folder = tempfile.mkdtemp(prefix="voicemeet-firefox-")
    wanted = {**_PREFERENCES, "layout.css.prefers-color-scheme.content-override": 0 if dark else 1}
    if downloads is not None:
        wanted |= {"browser.download.folderList": 2, "browser.download.dir": str(downloads)}
        wanted |= {"browser.helperApps.neverAsk.saveToDisk": "application/toml"}
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in wanted.items()]
    Path(folder, "user.js").write_text("\n".join(lines) + "\n")
    return folder
