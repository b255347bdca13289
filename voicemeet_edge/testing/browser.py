"""A real Chromium for tests, driven over the Chrome DevTools Protocol by a client of our own.

One rule: everything it starts (processes, profile folder, connection) is gone when the `async with`
ends, whatever happened inside.

The microphone is a WAV file or Chromium's own beeps, the permission question is answered yes unless
`microphone=False`, and loopback addresses are allowed as ICE candidates, so that two browsers can
call each other on a machine without a network.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect

from voicemeet_edge.timeouts import timeout

START_S = 90.0  # s; a cold Chromium on a busy two-core machine needs ten, Firefox beside much else over forty
ANSWER_S = 5.0  # s for one question of many
COMMAND_S = 60.0  # s for one DevTools command
CLOSE_S = 10.0  # s for all processes to go after SIGKILL
MAX_MESSAGE = 64 * 1024 * 1024  # bytes; a screenshot travels as base64
MAX_CONSOLE = 500  # console lines kept for a failing test's message

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--mute-audio",
    "--password-store=basic",
    "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--autoplay-policy=no-user-gesture-required",
)

_KEYS: dict[str, tuple[str, int, str]] = {  # name: code, virtual key code, text
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    " ": ("Space", 32, " "),
    "Tab": ("Tab", 9, ""),
}


# Of a page that lets a test wait in vain; each asked alone, for any of them may be what hangs.
_OF_ITSELF = {
    "state": "window.voicemeet?.state",
    "ice": "window.voicemeet?.model.call?.media?.connection?.iceConnectionState",
    "silent": "document.getElementById('voice')?.paused",
    "stats": "window.voicemeet?.stats()",
}

# What tests see of the desk page, as `window.voicemeet`, and its limits from the address: put into the page
# by the browser's debugger, because the page that is served has no such door.
DESK_HOOKS = """addEventListener('DOMContentLoaded', async () => {
  if (!document.querySelector('script[src="desk.js"]')) return;
  const [desk, { LIMITS }] = await Promise.all(
    ['desk.js', 'call.js'].map((name) => import(new URL(name, document.baseURI).href)),
  );
  const query = new URLSearchParams(location.search);
  for (const name of Object.keys(LIMITS)) if (query.has(name)) LIMITS[name] = Number(query.get(name));
  await desk.ready;
  window.voicemeet = {
    get state() { return document.body.dataset.state; },
    model: desk.model,
    stats: () => desk.model.call?.media?.stats() ?? {},
  };
});"""


class BrowserError(Exception):
    """Chromium did not start, a command failed, or a script in the page threw."""


def chromium_path() -> str | None:
    """Return where Chromium is, or None: tests that need it skip with a sentence then."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """One Chromium with one page.

    Args:
        url: opened before `async with` hands the page over.
        capture: WAV file that the microphone hears, played in a loop; None for Chromium's beeps.
        microphone: False to have the permission refused.
        size: width and height of the page in CSS pixels.
        dark: ask the page for its dark colours.
        scale: zoom; 2.0 is 200 %, at an unchanged window.
        profile: folder of a profile to use and to keep; None for a new one that is thrown away.
        flags: more command-line flags.
        downloads: folder into which files are saved without a question.
    """

    def __init__(
        self,
        url: str,
        *,
        capture: Path | None = None,
        microphone: bool = True,
        size: tuple[int, int] = (1000, 800),
        dark: bool = False,
        scale: float = 1.0,
        profile: Path | None = None,
        flags: Sequence[str] = (),
        downloads: Path | None = None,
    ) -> None:
        self._url = url
        self._flags = [*_FLAGS, *flags]
        self._flags.append("--use-fake-ui-for-media-stream" if microphone else "--deny-permission-prompts")
        if capture is not None:
            self._flags.append(f"--use-file-for-fake-audio-capture={capture}")
        self._downloads = downloads
        self._size, self._dark, self._scale = size, dark, scale
        self._process: asyncio.subprocess.Process | None = None
        self._profile: str | None = None if profile is None else str(profile)
        self._keeps_profile = profile is not None
        self._socket: ClientConnection | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_id = 0
        self._session: str | None = None
        self._loaded = asyncio.Event()
        self.console: deque[str] = deque(maxlen=MAX_CONSOLE)
        """What the page wrote to its console, and the errors nobody caught."""

    async def __aenter__(self) -> Self:
        try:
            async with timeout(START_S):
                await self._start()
        except BaseException as error:
            await self._stop()
            if isinstance(error, TimeoutError):
                raise BrowserError(f"the browser was not ready within {START_S:.0f} s") from None
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop()

    # -- what tests do -------------------------------------------------------------------------

    async def evaluate(self, script: str) -> Any:
        """Run an expression (it may be a promise) in the page and return its value."""
        reply = await self.command(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in reply:
            details = reply["exceptionDetails"]
            told = details.get("exception", {}).get("description") or details.get("text")
            raise BrowserError(f"the script threw: {told}")
        return reply["result"].get("value")

    async def wait_for(self, condition: str, timeout_s: float = 30.0) -> Any:
        """Wait until an expression is true in the page and return its value.

        A question that is not answered in time is asked again: on a busy machine Firefox was seen to leave
        one `getStats()` unanswered for good.
        """
        try:
            async with timeout(timeout_s):
                # The condition lives in another process: nothing there tells us when it changes.
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with timeout(ANSWER_S):
                            if value := await self.evaluate(condition):
                                return value
                    await asyncio.sleep(0.05)
        except TimeoutError:
            console = "\n".join(self.console) or "(empty)"
            raise BrowserError(
                f"never true: {condition}\npage: {await self._seen()}\nconsole:\n{console}"
            ) from None

    async def _seen(self) -> str:
        """Return what the desk page knows of itself, for the message of a test that waited in vain."""
        seen = {}
        for name, script in _OF_ITSELF.items():
            try:
                async with timeout(ANSWER_S):
                    seen[name] = await self.evaluate(script)
            except (TimeoutError, BrowserError, ConnectionError) as error:
                seen[name] = f"({type(error).__name__})"
        return json.dumps(seen)

    async def click(self, selector: str) -> None:
        """Click with the mouse in the middle of an element."""
        at = await self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            " return r.width ? [r.x + r.width / 2, r.y + r.height / 2] : null; })()"
        )
        if at is None:
            raise BrowserError(f"{selector} is not visible")
        for kind in ("mousePressed", "mouseReleased"):
            await self.command(
                "Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left", clickCount=1
            )

    async def press(self, key: str) -> None:
        """Press and release a key: Enter, Escape, Tab, a space or one letter."""
        code, number, text = _KEYS.get(key, (f"Key{key.upper()}", ord(key[0].upper()), key))
        common = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        await self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **common)

    async def type(self, text: str) -> None:
        """Insert text where the focus is."""
        await self.command("Input.insertText", text=text)

    async def navigate(self, url: str) -> None:
        """Open another address, leaving the page as a person would."""
        self._loaded.clear()
        reply = await self.command("Page.navigate", url=url)
        if "errorText" in reply:
            raise BrowserError(f"the page did not load: {reply['errorText']}")
        async with timeout(START_S):
            await self._loaded.wait()

    async def screenshot(self, path: Path) -> None:
        """Write a PNG of what is visible."""
        reply = await self.command("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(reply["data"]))

    async def command(self, method: str, **params: object) -> dict[str, Any]:
        """Send any DevTools command to the page and return its result."""
        if self._socket is None:
            raise BrowserError("the browser is closed")
        self._last_id += 1
        number = self._last_id
        message: dict[str, object] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            async with timeout(COMMAND_S):
                await self._socket.send(json.dumps(message))
                return await reply
        except TimeoutError:
            raise BrowserError(f"{method} was not answered within {COMMAND_S:.0f} s") from None
        finally:
            self._replies.pop(number, None)

    # -- inside --------------------------------------------------------------------------------

    async def _start(self) -> None:
        path = chromium_path()
        if path is None:
            raise BrowserError("Chromium is not installed")
        if self._profile is None:
            self._profile = await asyncio.to_thread(tempfile.mkdtemp, prefix="voicemeet-chromium-")
        self._process = await asyncio.create_subprocess_exec(
            path,
            *self._flags,
            f"--user-data-dir={self._profile}",
            f"--window-size={self._size[0]},{self._size[1]}",
            "about:blank",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that its helpers can be ended with it
            env={**os.environ, "HOME": self._profile},
        )
        endpoint = await self._endpoint(self._process, "DevTools listening on ")
        self._socket = await connect(endpoint, max_size=MAX_MESSAGE, proxy=None, ping_interval=None)
        self._tasks.append(asyncio.create_task(self._receive(self._socket)))
        targets = await self.command("Target.getTargets")
        page = next(target for target in targets["targetInfos"] if target["type"] == "page")
        attached = await self.command("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.command(f"{domain}.enable")
        width, height = self._size
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=int(width / self._scale),
            height=int(height / self._scale),
            deviceScaleFactor=self._scale,
            mobile=False,
        )
        scheme = "dark" if self._dark else "light"
        await self.command(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        await self.command("Page.addScriptToEvaluateOnNewDocument", source=DESK_HOOKS)
        if self._downloads is not None:
            await self.command(
                "Page.setDownloadBehavior", behavior="allow", downloadPath=str(self._downloads)
            )
        await self.navigate(self._url)

    async def _endpoint(self, process: asyncio.subprocess.Process, announced: str) -> str:
        assert process.stderr is not None
        told: list[str] = []
        while line := (await process.stderr.readline()).decode(errors="replace"):
            told.append(line)
            if announced in line:
                self._tasks.append(asyncio.create_task(_drain(process.stderr)))
                return line.split(announced, 1)[1].strip()
        raise BrowserError(f"the browser ended at once: {''.join(told[-10:])}")

    async def _receive(self, socket: ClientConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            if "id" in message:
                reply = self._replies.get(message["id"])
                if reply is None or reply.done():
                    continue
                if "error" in message:
                    error = message["error"]  # an object over DevTools, a word over BiDi
                    told = (
                        error.get("message")
                        if isinstance(error, dict)
                        else f"{error}: {message.get('message')}"
                    )
                    reply.set_exception(BrowserError(str(told)))
                else:
                    reply.set_result(message.get("result", {}))
            else:
                self._on_event(message["method"], message.get("params", {}))
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(BrowserError("the browser is gone"))

    def _on_event(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Runtime.consoleAPICalled":
            parts = [str(part.get("value", part.get("description", ""))) for part in params["args"]]
            self.console.append(f"{params['type']}: {' '.join(parts)}")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            told = details.get("exception", {}).get("description") or details.get("text")
            self.console.append(f"uncaught: {told}")
        elif method == "Log.entryAdded":
            entry = params["entry"]
            self.console.append(f"{entry['source']} {entry['level']}: {entry['text']} {entry.get('url', '')}")

    async def _stop(self) -> None:
        if self._socket is not None:
            socket, self._socket = self._socket, None
            try:
                async with timeout(CLOSE_S):
                    await socket.close()
            except TimeoutError:
                pass  # it is killed below anyway
        if self._process is not None:
            process, self._process = self._process, None
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended by itself
            async with timeout(CLOSE_S):
                await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if self._profile is not None and not self._keeps_profile:
            profile, self._profile = self._profile, None
            # Helpers may write a last file while they die: a leftover in /tmp is not worth a failure.
            await asyncio.to_thread(shutil.rmtree, profile, ignore_errors=True)


async def _drain(stream: asyncio.StreamReader) -> None:
    """Read what Chromium complains about, so that its pipe never fills."""
    while await stream.read(65536):
        pass
