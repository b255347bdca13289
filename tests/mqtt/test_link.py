"""A device's link at a real Mosquitto, with a second client in Home Assistant's place."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from voicemeet_edge.call import observed
from voicemeet_edge.call.machine import State
from voicemeet_edge.settings import Settings

aiomqtt = pytest.importorskip("aiomqtt", reason="the Python package aiomqtt is not installed")
from voicemeet_edge.mqtt.link import MqttLink  # noqa: E402 - after the look for what it needs

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

MOSQUITTO = shutil.which("mosquitto", path="/usr/bin:/usr/sbin:/usr/local/sbin")
BASE = "voicemeet/side_entrance"


class Broker:
    """A Mosquitto on a port of loopback that can be stopped and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        assert MOSQUITTO is not None
        self._process = await asyncio.create_subprocess_exec(
            MOSQUITTO, "-c", str(self._config), stdout=asyncio.subprocess.DEVNULL, stderr=-3
        )
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                return

    async def stop(self) -> None:
        """Stop it."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()


class Home:
    """Everything that was published, as Home Assistant sees it."""

    def __init__(self, client: object) -> None:
        self.client = client
        self.seen: list[tuple[str, str]] = []

    async def until(self, topic: str, payload: str) -> None:
        """Read on until this was published."""
        async with asyncio.timeout(30):
            while (topic, payload) not in self.seen:
                message = await anext(self.client.messages.__aiter__())  # type: ignore[attr-defined]
                self.seen.append((str(message.topic), bytes(message.payload).decode()))


@pytest.fixture
async def broker(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("Mosquitto is not installed (Debian package mosquitto)")
    broker = Broker(tmp_path, unused_tcp_port)
    await broker.start()
    yield broker
    await broker.stop()


@asynccontextmanager
async def home(broker: Broker) -> AsyncIterator[Home]:
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("#")
        yield Home(client)


@asynccontextmanager
async def link(port: int, opened: list[float], *, open_door: bool = False) -> AsyncIterator[MqttLink]:
    settings = Settings.from_dict(
        {
            "call": {"name": "Side entrance"},
            "panel": {"relay_line": "GPIO16", "relay_s": 0.5},
            "mqtt": {"broker": f"mqtt://127.0.0.1:{port}", "open_door": open_door},
        }
    )

    async def switch(seconds: float) -> bool:
        opened.append(seconds)
        one.observe(observed.DoorOpened(seconds, 0.0))
        return True

    one = MqttLink(settings, switch)
    running = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_it_is_found_rings_and_is_gone(broker: Broker) -> None:
    async with home(broker) as there:
        async with link(broker.port, []) as one:
            await there.until(f"{BASE}/available", "online")
            configs = {topic: text for topic, text in there.seen if topic.startswith("homeassistant/")}
            ring = json.loads(configs["homeassistant/event/voicemeet_side_entrance/ring/config"])
            assert ring["device_class"] == "doorbell"
            one.observe(observed.StateChanged(State.SEEKING, 1.0))
            await there.until(ring["state_topic"], '{"event_type": "ring"}')
            await there.until(f"{BASE}/state", "seeking")
        await there.until(f"{BASE}/available", "offline")


async def test_the_door_opens_when_told_and_not_by_what_was_kept(broker: Broker) -> None:
    opened: list[float] = []
    async with home(broker) as there:
        await there.client.publish(f"{BASE}/door/set", "UNLOCK", retain=True)  # type: ignore[attr-defined]
        async with link(broker.port, opened, open_door=True):
            await there.until(f"{BASE}/available", "online")
            await there.client.publish(f"{BASE}/door/set", "LOCK")  # type: ignore[attr-defined]
            await there.client.publish(f"{BASE}/door/set", "UNLOCK")  # type: ignore[attr-defined]
            await there.until(f"{BASE}/door", "UNLOCKED")
            there.seen.remove((f"{BASE}/door", "LOCKED"))
            await there.until(f"{BASE}/door", "LOCKED")
    assert opened == [0.5]


async def test_without_leave_nobody_opens_the_door(broker: Broker) -> None:
    opened: list[float] = []
    async with home(broker) as there, link(broker.port, opened) as one:
        await there.until(f"{BASE}/available", "online")
        await there.client.publish(f"{BASE}/door/set", "UNLOCK")  # type: ignore[attr-defined]
        await there.until(f"{BASE}/door/set", "UNLOCK")
        one.observe(observed.FaultChanged("sound", "gone"))
        await there.until(f"{BASE}/problem", "ON")
    assert opened == []


async def test_it_comes_back_with_the_broker_and_says_how_it_is(broker: Broker) -> None:
    async with link(broker.port, []) as one:
        async with home(broker) as there:
            await there.until(f"{BASE}/available", "online")
        await broker.stop()
        one.observe(observed.FaultChanged("sound", "gone"))
        await broker.start()
        async with home(broker) as there:
            await there.until(f"{BASE}/problem", "ON")
            await there.until(f"{BASE}/available", "online")


async def test_a_broker_that_sends_without_end_is_left() -> None:
    # Fails without MAX_PACKET_BYTES: MQTT lets a packet have 256 MB, and the library gathers it whole.
    left = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(1000)
            writer.write(b"\x20\x02\x00\x00")  # CONNACK: be welcome
            writer.write(b"\x30\xff\xff\xff\x7f")  # PUBLISH, of the longest length there is
            for _ in range(64):
                writer.write(bytes(1 << 20))
                await writer.drain()
        except ConnectionError:
            left.set()
        finally:
            writer.close()

    async with (
        await asyncio.start_server(flood, "127.0.0.1", 0) as server,
        link(server.sockets[0].getsockname()[1], []),
        asyncio.timeout(20),
    ):
        await left.wait()
