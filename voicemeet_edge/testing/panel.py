"""A panel without hardware or terminal: tests press its buttons and look at its lamp.

One rule: it keeps the contract of panel/interface.py to the letter, closing included.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import final

from typing_extensions import override

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.interface import ButtonEvent, Panel, PanelEvent
from voicemeet_edge.panel.queue import ButtonQueue
from voicemeet_edge.timeouts import timeout

MAX_REMEMBERED_LAMPS = 10_000  # shows; a soak test of thousands of calls must not grow without end


@final
class FakePanel(Panel):
    """Buttons to press from code, and a list of all the lamp showed."""

    def __init__(self) -> None:
        self._queue = ButtonQueue()
        self._waiters: list[tuple[Lamp, asyncio.Future[None]]] = []
        self.shown: list[Lamp] = []
        self.closed = False
        self.has_door = False
        self.level: int | None = None
        """How bright it was last told to be, in per cent."""
        self.opened: list[float] = []
        """For how long the door was opened, each time."""
        self.read_at: float | None = None
        """What it says of its last proof of life."""

    @property
    def lamp(self) -> Lamp:
        """What the lamp shows now."""
        return self.shown[-1] if self.shown and not self.closed else Lamp.OFF

    def press(self, event: PanelEvent = ButtonEvent.CALL_PRESSED) -> None:
        """Do what a person does; on the loop."""
        self._queue.put(event)

    async def wait_for(self, lamp: Lamp, *, timeout_s: float = 30.0) -> None:
        """Wait until the lamp shows this, however shortly; at once when it does already."""
        if self.lamp is lamp:
            return
        waiter = lamp, asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with timeout(timeout_s):
                await waiter[1]
        finally:
            self._waiters.remove(waiter)

    @override
    def events(self) -> AsyncIterator[PanelEvent]:
        return self._queue.events()

    @override
    def show(self, lamp: Lamp) -> None:
        if self.closed:
            return
        del self.shown[: len(self.shown) - MAX_REMEMBERED_LAMPS + 1]
        self.shown.append(lamp)
        self._wake(lamp)

    @override
    def dim(self, night_level: int) -> None:
        self.level = night_level

    @override
    def alive_at(self) -> float | None:
        return self.read_at

    @override
    async def open_door(self, seconds: float) -> bool:
        if self.has_door:
            self.opened.append(seconds)
        return self.has_door

    @override
    async def close(self) -> None:
        self.closed = True
        self._queue.close()
        self._wake(Lamp.OFF)

    def _wake(self, lamp: Lamp) -> None:
        for wanted, future in self._waiters:
            if wanted is lamp and not future.done():
                future.set_result(None)
