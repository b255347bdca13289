"""A hub's coturn in a network namespace of its own, where addresses come, go and change; see test_coturn.py.

Usage: python -m tests.hub.turn.late_network FOLDER auto|ADDRESS. Exit status 0: it followed them all.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from voicemeet_edge.errors import BackendError
from voicemeet_edge.hub.settings import TurnSettings
from voicemeet_edge.hub.turn.coturn import Coturn, _answers
from voicemeet_edge.hub.turn.provider import HmacTurn
from voicemeet_edge.net.watch import Change, Watch
from voicemeet_edge.secret import Secret

LIMIT_S = 20.0
PORT = 3478


def ip(*words: str) -> None:
    """Change the namespace this process is in."""
    subprocess.run(["ip", *words], check=True)


def _serves(coturn: Coturn, address: str) -> bool:
    told, serving = coturn.address, coturn._serving
    return told is not None and told.host == address and serving is not None and address in serving.listen


async def served_at(coturn: Coturn, provider: HmacTurn, address: str) -> None:
    """Give the machine this address, and wait until devices are told it and it answers."""
    ip("address", "add", f"{address}/24", "dev", "eth0")
    ip("route", "replace", "default", "via", "10.66.0.1")
    async with asyncio.timeout(LIMIT_S):
        while not _serves(coturn, address):  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.05)
    assert await _answers(address, PORT)
    grant = await provider.issue("c", "a", 0.0, 600.0)
    assert grant.ice_servers[0].urls == (f"stun:{address}:{PORT}",)
    assert grant.ice_servers[1].urls[0] == f"turn:{address}:{PORT}?transport=udp"


async def main(folder: Path, wanted: str) -> None:
    """Let addresses come, go and change."""
    settings = TurnSettings(provider="coturn", port=PORT, listen=(wanted,), relay_address=wanted)
    ip("address", "flush", "dev", "eth0")
    coturn = await asyncio.to_thread(Coturn, settings, Secret("s" * 64), folder)
    provider = HmacTurn(Secret("s" * 64), lambda: coturn.address)
    await coturn.start()
    assert coturn.pid is None
    with pytest.raises(BackendError) as refused:
        await provider.issue("c", "a", 0.0, 600.0)
    assert (refused.value.code, refused.value.status) == ("turn_unavailable", 503)
    watch = Watch(lambda change: coturn.network_changed() if change is Change.NETWORK else None)
    tasks = [asyncio.create_task(coturn.supervise()), asyncio.create_task(watch.run())]
    await asyncio.sleep(0.1)  # the watch has seen how it was
    await served_at(coturn, provider, "10.66.0.5")
    first = coturn.pid
    # Gone for a moment: nothing is promised, and the server is left alone.
    ip("address", "flush", "dev", "eth0")
    async with asyncio.timeout(LIMIT_S):
        while coturn.address is not None:  # noqa: ASYNC110 - found out by the watch
            await asyncio.sleep(0.05)
    await served_at(coturn, provider, "10.66.0.5")
    assert coturn.pid == first
    if wanted == "auto":
        ip("address", "flush", "dev", "eth0")
        await served_at(coturn, provider, "10.66.0.6")
        assert coturn.pid != first
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
