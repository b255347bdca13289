"""The bounded queue between a panel and the app."""

from __future__ import annotations

import asyncio

from voicemeet_edge.panel.interface import ButtonEvent, PanelEvent
from voicemeet_edge.panel.queue import MAX_WAITING_EVENTS, ButtonQueue


async def test_events_come_in_order_until_closed() -> None:
    queue = ButtonQueue()
    queue.put(ButtonEvent.CALL_PRESSED)
    queue.put(ButtonEvent.REPORT_PRESSED)
    queue.close()
    queue.put(ButtonEvent.CALL_HELD)
    assert [event async for event in queue.events()] == [
        ButtonEvent.CALL_PRESSED,
        ButtonEvent.REPORT_PRESSED,
    ]


async def test_the_oldest_are_dropped() -> None:
    queue = ButtonQueue()
    queue.put(ButtonEvent.CALL_HELD)
    for _ in range(MAX_WAITING_EVENTS):
        queue.put(ButtonEvent.CALL_PRESSED)
    queue.close()
    assert [event async for event in queue.events()] == [ButtonEvent.CALL_PRESSED] * MAX_WAITING_EVENTS


async def test_a_waiting_reader_is_woken_by_an_event_and_by_close() -> None:
    queue = ButtonQueue()
    seen: list[PanelEvent] = []

    async def read() -> None:
        async for event in queue.events():
            seen.append(event)
            queue.close()

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await asyncio.sleep(0)
        queue.put(ButtonEvent.CALL_HELD)
    assert seen == [ButtonEvent.CALL_HELD]
