"""The official clients as child processes that are told what to do line by line."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
JS_DRIVER = HERE / "js" / "driver.mjs"
JS_MODULES = HERE / "js" / "node_modules"
PYTHON = ROOT / ".venv-realtime" / "bin" / "python"
WAIT_S = 30.0  # s for anything one client is asked or expected to do

CORNERS = ["js-1.0.0", "js-2.0.0", "python-1.0.0"]


def command_of(corner: str) -> list[str]:
    """Return how to start a corner's driver; skips the test when its client is not installed."""
    if corner.startswith("js"):
        node = shutil.which("node")
        if node is None:
            pytest.skip("node is not installed")
        if not JS_MODULES.is_dir():
            pytest.skip("official JavaScript client missing: npm ci --prefix tests/conformance/js")
        return [node, str(JS_DRIVER)]
    if not PYTHON.exists():
        pytest.skip(
            "official Python client missing: python3 -m venv .venv-realtime && "
            ".venv-realtime/bin/pip install --require-hashes -r requirements/realtime-client.txt"
        )
    return [str(PYTHON), str(HERE / "python_driver.py")]


class Client:
    """A running driver."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._heard = asyncio.Event()
        self.events: list[dict[str, Any]] = []

    async def read(self) -> None:
        """Sort lines into answers and events until the process ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            answer = self._answers.pop(message.get("id"), None)
            if answer is None:
                self.events.append(message)
                self._heard.set()
            elif "error" in message:
                answer.set_exception(RuntimeError(message["error"]))
            else:
                answer.set_result(message["result"])

    async def do(self, op: str, **arguments: Any) -> Any:
        """Give a command and return its result."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        line = json.dumps({"id": self._number, "op": op, **arguments})
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(WAIT_S):
            return await answer

    async def subscribe(self, name: str, topic: str, **options: Any) -> dict[str, str]:
        """Join and return the first status."""
        defaults = {"private": False, "ack": True, "echo": False, "presence": False}
        answer: dict[str, str] = await self.do(
            "subscribe", name=name, topic=topic, options=defaults | options
        )
        return answer

    async def event(self, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first event that matches, waiting for it when it has not come yet."""
        async with asyncio.timeout(WAIT_S):
            while True:
                for event in self.events:
                    if matches(event):
                        return event
                self._heard.clear()
                await self._heard.wait()

    async def broadcast(self, name: str, **payload: Any) -> dict[str, Any]:
        """Return the first broadcast of this name with these values in its payload."""
        return await self.event(
            lambda event: (
                event["event"] == "broadcast"
                and event["name"] == name
                and payload.items() <= event["payload"].items()
            )
        )

    def broadcasts(self) -> list[str]:
        """Return the names of the broadcasts heard so far."""
        return [event["name"] for event in self.events if event["event"] == "broadcast"]


@asynccontextmanager
async def client(corner: str, url: str, key: str) -> AsyncIterator[Client]:
    """Run one official client, connected."""
    # No proxy settings: the drivers talk to loopback only.
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *command_of(corner),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        limit=1_000_000,
    )
    running = Client(process)
    reader = asyncio.create_task(running.read())
    try:
        await running.do("connect", url=url, key=key, vsn=corner.rpartition("-")[2])
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader
