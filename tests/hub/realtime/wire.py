"""A client that says exactly what it is told, byte by byte, for the tests of the Realtime server."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.signaling.realtime_hub import TestHub, token
from voicemeet_edge.signaling.frames import PhoenixFrame, Version, decode, encode

WAIT_S = 20.0  # s for a frame that must come


class Wire:
    """One raw socket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, version: Version) -> None:
        self.socket = socket
        self.version = version
        self._refs = itertools.count(1)

    async def send(
        self,
        topic: str,
        event: str,
        payload: dict[str, object] | None = None,
        *,
        join_ref: str | None = None,
        ref: str | None = None,
    ) -> str:
        """Send a text frame; returns its ref."""
        ref = ref or str(next(self._refs))
        data = encode(PhoenixFrame(join_ref, ref, topic, event, payload or {}), self.version)
        assert isinstance(data, str)
        await self.socket.send_str(data)
        return ref

    async def raw(self) -> str | bytes:
        """Return the next message as it came."""
        message = await self.socket.receive(WAIT_S)
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        data: str | bytes = message.data
        return data

    async def frame(self) -> PhoenixFrame:
        """Return the next message."""
        return decode(await self.raw(), self.version)

    async def expect(self, event: str) -> dict[str, object]:
        """Return the payload of the next message, which must be this event."""
        frame = await self.frame()
        assert frame.event == event, frame
        assert isinstance(frame.payload, dict)
        return frame.payload

    async def join(self, topic: str, access_token: str | None = None, **config: object) -> str:
        """Join and return the join_ref; the reply must be ok."""
        ref = await self.ask_to_join(topic, access_token, **config)
        reply = await self.expect("phx_reply")
        assert reply == {"status": "ok", "response": {"postgres_changes": []}}
        return ref

    async def ask_to_join(self, topic: str, access_token: str | None = None, **config: object) -> str:
        """Send a join."""
        payload: dict[str, object] = {"config": config}
        if access_token is not None:
            payload["access_token"] = access_token
        ref = str(next(self._refs))
        return await self.send(topic, "phx_join", payload, join_ref=ref, ref=ref)

    async def refusal(self) -> str:
        """Return the reason of the next message, an error reply."""
        reply = await self.expect("phx_reply")
        assert reply["status"] == "error"
        response = reply["response"]
        assert isinstance(response, dict)
        return str(response["reason"])

    async def system_close(self) -> str:
        """Return the text of a `system` error, which must be followed by `phx_close`."""
        payload = await self.expect("system")
        assert payload["status"] == "error"
        assert payload["extension"] == "system"
        assert isinstance(payload["channel"], str)
        assert not payload["channel"].startswith("realtime:")
        await self.expect("phx_close")
        return str(payload["message"])

    async def broadcast(self, topic: str, event: str, payload: dict[str, object], join_ref: str) -> str:
        """Send a broadcast as text."""
        body: dict[str, object] = {"type": "broadcast", "event": event, "payload": payload}
        return await self.send(topic, "broadcast", body, join_ref=join_ref)

    async def silence(self) -> None:
        """Prove that nothing was on its way: a heartbeat's reply is the next message."""
        ref = await self.send("phoenix", "heartbeat")
        frame = await self.frame()
        assert (frame.topic, frame.event, frame.ref) == ("phoenix", "phx_reply", ref), frame

    async def closed(self) -> int | None:
        """Wait until the server has hung up; returns its close code."""
        async with asyncio.timeout(WAIT_S):
            async for _ in self.socket:
                pass
        return self.socket.close_code


@asynccontextmanager
async def wire(
    server: TestHub, version: Version = Version.V2, *, key: str | None = None
) -> AsyncIterator[Wire]:
    """Open a raw socket."""
    url = f"{server.base}/realtime/v1/websocket"
    params = {"apikey": token() if key is None else key, "vsn": version.value}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, params=params, max_msg_size=0) as socket,
    ):
        yield Wire(socket, version)


def parsed(text: str | bytes) -> object:
    """Return the JSON of a text message, to see every key."""
    assert isinstance(text, str)
    value: object = json.loads(text)
    return value
