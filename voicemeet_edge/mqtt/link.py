"""The device at an MQTT broker: tells what happens, and opens the door where that is allowed.

The one rule: a broker that is slow, gone or hostile costs the device nothing but this; calls go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import aiomqtt

from voicemeet_edge.call import observed
from voicemeet_edge.mqtt.entities import UNLOCK, Entities, Post
from voicemeet_edge.settings import Settings
from voicemeet_edge.signaling.reconnect import Backoff
from voicemeet_edge.timeouts import timeout, until_one_fails

logger = logging.getLogger(__name__)

MAX_QUEUED = 64  # things to tell; older ones are no news any more
MAX_PACKET_BYTES = 16_384  # bytes; what we are told is one word. MQTT lets a packet have 256 MB
ANSWER_S = 10.0  # s for the broker to answer
GOODBYE_S = 1.0  # s; whoever stops the device waits for it
KEEPALIVE_S = 30  # s; a device that is gone is known as "offline" soon after


class MqttLink:
    """One device's connection, made anew for as long as the device runs."""

    def __init__(self, settings: Settings, open_door: Callable[[float], Awaitable[bool]]) -> None:
        """`open_door(seconds)` switches the lock and says whether it could."""
        mqtt = settings.mqtt
        may_open = mqtt.open_door and bool(settings.panel.relay_line)
        name = settings.call.name or settings.status.name
        self._settings = mqtt
        self._seconds = settings.panel.relay_s
        self._open_door = open_door
        self._entities = Entities(name, mqtt.topic, mqtt.discovery, may_open)
        self._posts: asyncio.Queue[Post] = asyncio.Queue(MAX_QUEUED)
        self._closing: asyncio.TimerHandle | None = None

    def observe(self, event: observed.Observed) -> None:
        """Take an event of the device; never waits."""
        self._queue(self._entities.take(event))
        if isinstance(event, observed.DoorOpened):
            if self._closing is not None:
                self._closing.cancel()
            loop = asyncio.get_running_loop()
            self._closing = loop.call_later(event.seconds, lambda: self._queue(self._entities.locked()))

    async def run(self) -> None:
        """Be there until cancelled; connect again and again."""
        backoff = Backoff()
        try:
            while True:
                try:
                    async with self._client() as client:
                        backoff.succeeded(time.monotonic())
                        logger.info("the MQTT broker is reached")
                        try:
                            await self._serve(client)
                        except asyncio.CancelledError:
                            await self._say_goodbye(client)
                            raise
                except (aiomqtt.MqttError, OSError, TimeoutError) as error:
                    level = logging.DEBUG if backoff.failures else logging.WARNING
                    logger.log(level, "the MQTT broker is not reached (%s); trying on", type(error).__name__)
                await asyncio.sleep(backoff.failed(time.monotonic()))
        finally:
            if self._closing is not None:
                self._closing.cancel()

    async def _say_goodbye(self, client: aiomqtt.Client) -> None:
        """Say "offline": of who leaves in good order the broker says nothing."""
        with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
            async with timeout(GOODBYE_S):
                await client.publish(self._entities.available, "offline", qos=1, retain=True)

    def _client(self) -> aiomqtt.Client:
        parts = urlsplit(self._settings.broker)
        secure = parts.scheme == "mqtts"
        client = aiomqtt.Client(
            parts.hostname or "",
            parts.port or (8883 if secure else 1883),
            username=self._settings.user or None,
            password=self._settings.password.reveal() or None,
            will=aiomqtt.Will(self._entities.available, "offline", qos=1, retain=True),
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_S,
            tls_context=ssl.create_default_context() if secure else None,
            max_queued_incoming_messages=MAX_QUEUED,
            max_queued_outgoing_messages=MAX_QUEUED,
        )
        _limit_packets(client)
        return client

    async def _serve(self, client: aiomqtt.Client) -> None:
        if self._entities.has_lock:
            await client.subscribe(self._entities.command, qos=1)
        for post in self._entities.announce():
            await _publish(client, post)
        await until_one_fails(self._tell(client), self._listen(client))

    async def _tell(self, client: aiomqtt.Client) -> None:
        while True:
            await _publish(client, await self._posts.get())

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            # A kept command is an old one: it would open the door at each connection.
            if message.retain or message.payload != UNLOCK or not self._entities.has_lock:
                continue
            if await self._open_door(self._seconds):
                logger.info("the door was opened over MQTT")

    def _queue(self, posts: list[Post]) -> None:
        for post in posts:
            if self._posts.full():
                self._posts.get_nowait()
            self._posts.put_nowait(post)


def _limit_packets(client: aiomqtt.Client) -> None:
    """Leave a broker that begins a longer packet: the library would gather it whole."""
    inner = client._client
    receive = inner._sock_recv

    def limited(size: int) -> bytes:
        if size > MAX_PACKET_BYTES:  # it asks for all that is missing of a packet
            raise OSError(errno.EMSGSIZE, "the packet is too long")
        return receive(size)

    vars(inner)["_sock_recv"] = limited


async def _publish(client: aiomqtt.Client, post: Post) -> None:
    await client.publish(post.topic, post.payload, qos=1, retain=post.kept)
    # Python 3.11's wait_for, which aiomqtt waits with, loses a cancellation that comes with the answer.
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
