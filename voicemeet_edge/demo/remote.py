"""A device in a process of its own, as the demo, the benches and the system tests hold it.

One rule: waits are for events, never for time; the time given is only the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.timeouts import timeout

LINE_LIMIT = 65_536  # bytes; the longest line is the statistics
STOP_TIMEOUT_S = 8.0  # s for goodbyes before it is killed
BETWEEN_PRESSES_S = 0.3  # s; a person's finger: the device takes faster presses for one
MAX_EVENTS = 100_000  # events remembered; a soak of days would grow for ever

Event = dict[str, Any]


class RemoteDevice:
    """Start, press, expect, stop."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.name = name
        self.events: list[Event] = []
        self._process = process
        self._arrived = asyncio.Event()
        self._reading = asyncio.create_task(self._read())
        self._mark = 0
        self._pressed_at = 0.0

    @classmethod
    async def start(
        cls,
        settings: Mapping[str, Mapping[str, object]],
        directory: Path,
        name: str,
        *,
        prefix: Sequence[str] = (),
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a device with these settings; `prefix` goes before the command (ip netns exec …)."""
        file = _write_settings(settings, directory, name)
        with (log or directory / f"{name}.log").open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *prefix,
                sys.executable,
                "-m",
                "voicemeet_edge.demo.child",
                str(file),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                limit=LINE_LIMIT,
                env={**os.environ, **(environment or {})},
            )
        return cls(process, name)

    @property
    def pid(self) -> int:
        """The process, for whoever measures it or kills it."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone, by whatever it was."""
        return self._process.returncode is not None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and len(self.events) < MAX_EVENTS:
                    self.events.append(event)
            self._arrived.set()
        self._arrived.set()

    async def tell(self, word: str) -> None:
        """Send one command word."""
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode() + b"\n")
        await self._process.stdin.drain()

    async def press(self, button: str = "call") -> float:
        """Press a button; returns the time (monotonic) at which the device took it."""
        await asyncio.sleep(max(0.0, self._pressed_at + BETWEEN_PRESSES_S - time.monotonic()))
        self.mark()
        await self.tell(button)
        self._pressed_at = float((await self.expect("pressed", button=button))["at"])
        return self._pressed_at

    def mark(self) -> None:
        """From here on `expect` looks only at what comes after."""
        self._mark = len(self.events)

    async def expect(self, event: str, timeout_s: float = 30.0, **facts: object) -> Event:
        """Wait for an event since the last mark with these facts.

        Raises:
            EnvironmentFault: it did not come in time, or the device ended.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._arrived.clear()
            for seen in self.events[self._mark :]:
                if seen.get("event") == event and all(seen.get(key) == facts[key] for key in facts):
                    return seen
            if self._reading.done():
                raise EnvironmentFault(f"{self.name} ended while {event} {facts} was awaited", code="ended")
            try:
                async with timeout(deadline - time.monotonic()):
                    await self._arrived.wait()
            except TimeoutError:
                tail = self.events[-12:]
                raise EnvironmentFault(
                    f"{self.name}: no {event} {facts} within {timeout_s:.0f} s; last: {tail}", code="timeout"
                ) from None

    def last(self, event: str) -> Event:
        """The newest event of this name; KeyError when there was none."""
        for seen in reversed(self.events):
            if seen.get("event") == event:
                return seen
        raise KeyError(event)

    async def state(self, state: str, timeout_s: float = 30.0) -> Event:
        """Wait until the call machine says this state."""
        return await self.expect("state", timeout_s, state=state)

    async def stats(self) -> Event:
        """Ask for the census of the process."""
        self.mark()
        await self.tell("stats")
        return await self.expect("stats")

    async def stop(self) -> int:
        """Ask it to end, kill it if it does not; returns its exit status."""
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            await self.tell("quit")
        try:
            async with timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self.kill()
        status = await self._process.wait()
        await self._reading
        return status

    def kill(self) -> None:
        """Kill it as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


def _write_settings(settings: Mapping[str, Mapping[str, object]], directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{name}.toml"
    file.touch(mode=0o600)  # it holds the apikey
    file.write_text(to_toml(settings))
    return file


def to_toml(settings: Mapping[str, Mapping[str, object]]) -> str:
    """Write flat sections of texts, numbers, booleans and lists; JSON's spelling of these is TOML's."""
    lines = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
