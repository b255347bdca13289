"""A hub with the memory of its unit, and somebody with many addresses who opens connections only halfway."""

from __future__ import annotations

import asyncio
import resource
import shutil
from asyncio import sslproto
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.attacks.guest import any_certificate, default_hub, enrolled, guest, latencies
from voicemeet_edge.hub.listener import CONNECTION_BYTES, HUB_BYTES, MEMORY_SHARE

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

HALF_A_HEAD = b"POST /functions/v1/voicemeet/session HTTP/1.1\r\nHost: localhost\r\n"
MEMORY = 2**30  # bytes, as `MemoryMax` of the hub's unit
PLACES = int((MEMORY - HUB_BYTES) * MEMORY_SHARE / CONNECTION_BYTES)  # what a hub allows itself with that
MANY = 4_096  # 3,583 killed a hub that did not count them
ADDRESSES = 64  # each fills all the places there are for one
AT_ONCE = 256  # handshakes under way


class Attack:
    """Half-open connections from many addresses of one host."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.writers: list[asyncio.StreamWriter] = []
        self._tls = any_certificate()
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def one(self, number: int) -> None:
        """Open one and leave it half-open."""
        async with self._slots:
            try:
                async with asyncio.timeout(30):
                    _, writer = await asyncio.open_connection(
                        "127.0.0.1",
                        self.port,
                        ssl=self._tls,
                        local_addr=(f"127.0.2.{number % ADDRESSES + 1}", 0),
                        limit=1024,
                    )
            except (OSError, TimeoutError):
                return
        writer.write(HALF_A_HEAD)
        self.writers.append(writer)

    @property
    def standing(self) -> int:
        """How many the hub has not closed."""
        return sum(not writer.transport.is_closing() for writer in self.writers)

    async def run(self) -> None:
        """All of them."""
        await asyncio.gather(*(self.one(number) for number in range(MANY)))

    def stop(self) -> None:
        """Let go."""
        for writer in self.writers:
            writer.transport.abort()


def peak_mb(pid: int) -> int:
    """The most memory a process has ever had."""
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM:"))) // 1024


async def test_four_thousand_half_open_connections_kill_no_hub_of_one_gibibyte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fails with the TLS buffer of asyncio (TLS_BUFFER_BYTES, hub/listener.py): then its memory is used up.
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is missing (Debian package util-linux)")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * MANY:
        pytest.skip("too few files may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * MANY), hard))
    monkeypatch.setattr(sslproto.SSLProtocol, "max_size", 8192)  # ours; or we would need a gigabyte
    prefix = ("prlimit", f"--as={MEMORY}")
    limits = {"max_connections": PLACES, "device_per_s": 100, "device_burst": 1000}  # we poll for a building
    with default_hub(tmp_path, prefix, limits=limits) as hub:
        async with guest(hub.url, "127.0.0.2") as lobby:
            token = await enrolled(lobby, hub.device_pass)
            port = urlsplit(hub.url).port
            assert port is not None
            attack = Attack(port)
            attacking = asyncio.create_task(attack.run())
            took: list[float] = []
            while not attacking.done():
                took += await latencies(lobby, token, "frontdesk", 1)
            await attacking
            peak, standing = peak_mb(hub.pid), attack.standing
            async with guest(hub.url, "127.0.0.4") as newcomer:
                assert await newcomer.session(), "somebody else is let in"
            attack.stop()
        log = (tmp_path / "hub.log").read_text()
    print(
        f"{len(attack.writers)} opened, {standing} standing at the end; the hub took {peak} MB at most; "
        f"honest polls: median {sorted(took)[len(took) // 2]:.0f} ms, worst {max(took):.0f} ms"
    )
    assert "MemoryError" not in log
    assert len(attack.writers) > MANY // 2, "the attack took place"
