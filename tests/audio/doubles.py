"""What the engine's tests put in place of the world: a wire between two engines, and an event list."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from voicemeet_edge.audio.engine import EngineEvent, VoiceEngine, VoiceOptions
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.voice.packet import RtpAudio


class Wire:
    """Carries one engine's payloads to another as RTP; `cut` loses them all."""

    def __init__(self) -> None:
        self.to: VoiceEngine | None = None
        self.cut = False
        self.packets: list[RtpAudio] = []
        self._sequence = 65_500  # wraps within a second

    def send(self, payload: bytes, timestamp: int) -> None:
        packet = RtpAudio(self._sequence, timestamp, 1234, payload, time.monotonic())
        self._sequence = (self._sequence + 1) & 0xFFFF
        self.packets.append(packet)
        if self.to is not None and not self.cut:
            self.to.receive(packet)


class Events(list[EngineEvent]):
    """Events as they came, and a way to wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = asyncio.Event()

    def __call__(self, event: EngineEvent) -> None:
        self.append(event)
        self._changed.set()

    async def wait_for(self, kind: type[EngineEvent], count: int = 1) -> EngineEvent:
        """Return the count-th event of a kind; the test's own limit ends a wait in vain."""
        while True:
            found = [event for event in self if isinstance(event, kind)]
            if len(found) >= count:
                return found[count - 1]
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 20)


async def until(condition: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("it never became so")
        await asyncio.sleep(0.01)


def engine(card: VirtualCard, events: Events, options: VoiceOptions | None = None) -> VoiceEngine:
    """Return an engine without echo canceller at full volume, unless told otherwise."""
    return VoiceEngine(
        card,
        options or VoiceOptions(volume_percent=100.0, echo="off"),
        loop=asyncio.get_running_loop(),
        on_event=events,
    )
