"""Drives the official Python client, unchanged: one JSON command per line in, answers and events out.

Runs in a virtual environment of its own, since that client pins an older websockets.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

from realtime import AsyncRealtimeClient  # type: ignore[import-not-found]

OK, ERROR, TIMEOUT = "ok", "error", "timed out"


def say(message: dict[str, Any]) -> None:
    """Write one line."""
    print(json.dumps(message), flush=True)


class Driver:
    """One client and its channels."""

    client: Any
    key: str

    def __init__(self) -> None:
        self.channels: dict[str, Any] = {}

    async def connect(self, url: str, key: str, vsn: str) -> None:
        """Connect; this client speaks 1.0.0 only."""
        self.key = key
        self.client = AsyncRealtimeClient(url, token=key)
        await self.client.connect()

    async def set_auth(self, token: str) -> None:
        """Use this token."""
        await self.client.set_auth(token)

    async def subscribe(self, name: str, topic: str, options: dict[str, Any]) -> dict[str, str]:
        """Join, answer with the first status."""
        config = {
            "private": options["private"],
            "broadcast": {"ack": options["ack"], "self": options["echo"]},
            "presence": {"key": options.get("key", ""), "enabled": options["presence"]},
        }
        channel = self.client.channel(topic, {"config": config})
        self.channels[name] = channel

        def broadcast(message: dict[str, Any]) -> None:
            say(
                {
                    "event": "broadcast",
                    "channel": name,
                    "name": message["event"],
                    "payload": message["payload"],
                }
            )

        channel.on_broadcast("*", broadcast)
        if options["presence"]:
            channel.on_presence_sync(
                lambda: say({"event": "presence", "channel": name, "state": channel.presence_state()})
            )
        first: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

        def status(value: Any, error: Exception | None) -> None:
            state = {"status": value.value, "error": str(error or "")}
            if first.done():
                say({"event": "status", "channel": name, **state})
            else:
                first.set_result(state)

        await channel.subscribe(status)
        return await first

    async def send(self, name: str, event: str, payload: dict[str, Any]) -> str:
        """Broadcast and wait for the acknowledgement."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        body = {"type": "broadcast", "event": event, "payload": payload}
        push = await self.channels[name].push("broadcast", body, timeout=15)

        def settle(word: str) -> None:
            if not answer.done():
                answer.set_result(word)

        for status, word in (("ok", OK), ("error", ERROR), ("timeout", TIMEOUT)):
            push.receive(status, lambda *_, word=word: settle(word))
        return await answer

    async def http_send(self, name: str, event: str, payload: dict[str, Any]) -> None:
        """Broadcast by REST."""
        await self.channels[name].http_send(event, payload)

    async def track(self, name: str, payload: dict[str, Any]) -> None:
        """Set the presence."""
        await self.channels[name].track(payload)

    async def untrack(self, name: str) -> None:
        """Remove the presence."""
        await self.channels[name].untrack()

    async def unsubscribe(self, name: str) -> None:
        """Leave."""
        await self.channels[name].unsubscribe()

    async def join_again(self, topic: str) -> None:
        """Join a joined topic once more, on the same socket."""
        from realtime.message import Message  # type: ignore[import-not-found]

        payload = {"config": {"private": False, "broadcast": {}, "presence": {}}, "access_token": self.key}
        message = Message(
            topic=f"realtime:{topic}", event="phx_join", payload=payload, ref="900", join_ref="900"
        )
        await self.client.send(message)


async def main() -> None:
    """Read commands until the input ends."""
    logging.disable(logging.CRITICAL)
    driver = Driver()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    tasks: set[asyncio.Task[None]] = set()

    async def run(command: dict[str, Any]) -> None:
        number, verb = command.pop("id"), command.pop("op")
        try:
            say({"id": number, "result": await getattr(driver, verb)(**command)})
        except Exception as error:  # the client's own errors are the answer
            say({"id": number, "error": f"{type(error).__name__}: {error}"})

    while line := await reader.readline():
        task = asyncio.create_task(run(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
