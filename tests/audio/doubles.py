"""What the engine's tests put in place of the world: a wire between two engines, and an event list."""

from __future__ import annotations

import asyncio
import time

from typing_extensions import override

from voicemeet_edge.audio.engine import VoiceEngine
from voicemeet_edge.audio.events import EngineEvent
from voicemeet_edge.settings import AudioSettings
from voicemeet_edge.testing.sound import VirtualCard
from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.packet import RtpAudio, VoiceLink


class Wire(VoiceLink):
    """Carries one engine's payloads to another as RTP."""

    def __init__(self, red_payload_type: int | None = None) -> None:
        self._red_payload_type = red_payload_type
        self._control = SendControl(0.0, red=red_payload_type is not None)
        self.to: VoiceEngine | None = None
        self.packets: list[RtpAudio] = []
        self._sequence = 65_500  # wraps within a second

    @property
    @override
    def control(self) -> SendControl:
        return self._control

    @property
    @override
    def red_payload_type(self) -> int | None:
        return self._red_payload_type

    @property
    @override
    def sends_in_any_thread(self) -> bool:
        return False

    @override
    def next_timestamp(self) -> int:
        return 2**32 - 4800  # wraps soon

    @override
    def receive(self) -> list[RtpAudio]:
        return []

    @override
    def send(self, payload: bytes, timestamp: int, *, red: bool = False) -> None:
        packet = RtpAudio(self._sequence, timestamp, 1234, payload, time.monotonic(), red)
        self._sequence = (self._sequence + 1) & 0xFFFF
        self.packets.append(packet)
        if self.to is not None:
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


def engine(card: VirtualCard, events: Events, options: AudioSettings | None = None) -> VoiceEngine:
    """Return an engine without echo canceller at full volume, unless told otherwise."""
    return VoiceEngine(
        card,
        options or AudioSettings(volume=100, echo="off"),
        loop=asyncio.get_running_loop(),
        on_event=events,
    )
