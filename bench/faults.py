"""How long a press of *call* takes to ring right after a fault: `python -m bench.faults [--presses 20]`.

frozen-caller, frozen-desk   the WebSocket of one side is dead and nobody said so
hub                          the hub was restarted (the press comes when it answers again)
clock                        the hub's clock was set by three days, forward and back in turn
address                      the caller's machine got another address
route                        its default route moved to another interface
slow-name, dead-name         the hub was restarted and the caller's resolver takes 3 s, or never answers
many                         150 others behind the same address came on line at the same moment

Two devices, each a process of its own. Printed: median and p95 of press to ring, beside the budget. Those
that change networks need root for namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.search import Search, SearchTarget
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.settings import HubSettings
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.testing.network import BridgedNetwork, unavailable
from voicemeet_edge.testing.proxy import FreezingProxy
from voicemeet_edge.testing.resolver import NameServer

BUDGET_S = 4.0
LIMIT_S = 60.0  # s after which a press that did not ring is counted as this
CALM_S = 2.2  # s between two calls: a kiosk that is left alone, and the desk back in its pool
AWAY_S = 0.5  # s the hub is away when it restarts
CROWD = 150
NAME = "hub.test"
KINDS = ("frozen-caller", "frozen-desk", "hub", "clock", "address", "route", "slow-name", "dead-name", "many")
IN_NAMESPACES = ("address", "route", "slow-name", "dead-name")


class Hub:
    """A hub that can be stopped and started again on its port."""

    def __init__(
        self, settings: HubSettings, enter: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        self._settings = settings
        self._enter = enter
        self._stack = AsyncExitStack()
        self.info: HubInfo

    async def start(self) -> None:
        with self._enter():
            self.info = await self._stack.enter_async_context(running_hub(self._settings))
        self._settings = replace(self._settings, http=replace(self._settings.http, port=self.info.port))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        await asyncio.sleep(AWAY_S)
        await self.start()


@dataclass
class World:
    """What a fault is done to."""

    hub: Hub
    caller: RemoteDevice
    desk: RemoteDevice
    network: BridgedNetwork | None = None
    proxies: tuple[FreezingProxy, ...] = ()
    names: NameServer | None = None
    number: int = 0


async def build(kind: str, stack: AsyncExitStack, directory: Path) -> World:
    """A hub, a caller and a desk, on loopback or on nodes of their own."""
    settings = hub_settings(directory, turn="off")
    network = None
    prefixes: dict[str, list[str]] = {"caller": [], "desk": []}
    if kind in IN_NAMESPACES:
        network = stack.enter_context(BridgedNetwork(("caller", "desk", "hub")))
        prefixes = {name: network.command(name) for name in prefixes}
        http = replace(settings.http, listen=("0.0.0.0",), allow_plaintext=True, names=(NAME,))
        settings = replace(settings, http=http)
    hub = Hub(settings, lambda: network.inside("hub") if network is not None else contextlib.nullcontext())
    await hub.start()
    stack.push_async_callback(hub.stop)
    proxies: list[FreezingProxy] = []
    names = None
    devices = {}
    if network is not None and kind.endswith("-name"):
        names = await _name_server(network, stack)
    for name, role in (("desk", "answerer"), ("caller", "caller")):
        table = device_settings(hub.info, LabCall(policy="direct", role=role), {"virtual_in": "speech"})
        if network is not None:
            host = NAME if names is not None and name == "caller" else network.address("hub")
            table["backend"] |= {"url": f"http://{host}:{hub.info.port}", "allow_plaintext": True}
            table["ice"] = {"policy": "direct", "ipv6": False}
        elif kind.startswith("frozen"):
            proxies.append(await stack.enter_async_context(FreezingProxy(hub.info.port)))
            table["backend"]["url"] = f"http://127.0.0.1:{proxies[-1].port}"
        devices[name] = await RemoteDevice.start(table, directory, name, prefix=prefixes[name])
        stack.push_async_callback(devices[name].stop)
        await devices[name].expect("backend", up=True)
    return World(hub, devices["caller"], devices["desk"], network, tuple(proxies), names)


async def _name_server(network: BridgedNetwork, stack: AsyncExitStack) -> NameServer:
    """Serve the name on the hub's node, and let the caller's node ask there."""
    with network.inside("hub"):
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((network.address("hub"), 53))
    names = await NameServer.start(network.address("hub"), bound)
    stack.callback(names.close)
    folder = Path("/etc/netns") / network.namespace("caller")  # ip-netns(8) puts it over /etc/resolv.conf
    folder.mkdir(parents=True)
    (folder / "resolv.conf").write_text(f"nameserver {network.address('hub')}\n")
    stack.callback(folder.rmdir)
    stack.callback((folder / "resolv.conf").unlink)
    return names


# -- the faults ----------------------------------------------------------------------------------


async def frozen(world: World, which: int) -> None:
    """Forget the WebSocket of one side."""
    world.proxies[which].freeze()


async def hub_restarts(world: World) -> None:
    """Restart the hub, with a resolver that is slow or dead where there is one."""
    await world.hub.restart()


async def clock_is_set(world: World) -> None:
    """Set the clock of the hub's process."""
    real, days = REAL_TIME, 3 if world.number % 2 else -3
    time.time = lambda: real() + days * 86400.0


REAL_TIME = time.time


def _ip(world: World, *words: str) -> None:
    assert world.network is not None
    subprocess.run(world.network.command("caller", "ip", *words), check=True, timeout=5)


async def address_changes(world: World) -> None:
    """Another lease."""
    assert world.network is not None
    base = world.network.address("hub").rpartition(".")[0]
    _ip(world, "address", "flush", "dev", "eth0")
    _ip(world, "address", "add", f"{base}.{100 + world.number % 100}/24", "dev", "eth0")
    _ip(world, "route", "replace", "default", "dev", "eth0")


def _plug_in_wlan(world: World) -> None:
    """Give the caller a second interface to the same switch."""
    assert world.network is not None
    node = world.network.namespace("caller")
    switch = node.rpartition("n")[0] + "s"
    for words in (f"link add wlan type veth peer wlan0 netns {node}", "link set wlan master bridge0 up"):
        subprocess.run(["ip", "-n", switch, *words.split()], check=True, timeout=5)


async def route_moves(world: World) -> None:
    """From eth0 to wlan0 and back, with the address: as from cable to Wi-Fi."""
    assert world.network is not None
    base = world.network.address("hub").rpartition(".")[0]
    to, gone = ("wlan0", "eth0") if world.number % 2 == 0 else ("eth0", "wlan0")
    last = 50 if to == "wlan0" else 1
    if world.number == 0:
        _plug_in_wlan(world)
    _ip(world, "address", "flush", "dev", gone)
    _ip(world, "link", "set", gone, "down")
    _ip(world, "link", "set", to, "up")
    _ip(world, "address", "replace", f"{base}.{last}/24", "dev", to)
    _ip(world, "route", "replace", "default", "dev", to)


async def crowd_comes(world: World) -> list[asyncio.Task[object]]:
    """Let many others come on line at once."""
    info = world.hub.info
    tasks: list[asyncio.Task[object]] = []
    for _ in range(CROWD):
        backend, line = Backend(info.url, info.apikey), RealtimeSocket(info.url, info.apikey)
        search = Search(backend, DeviceTokens(backend), line, SearchTarget("house", Role.ANSWERER))
        tasks += [asyncio.create_task(line.run()), asyncio.create_task(_stand_by(search, backend))]
    return tasks


async def _stand_by(search: Search, backend: Backend) -> object:
    try:
        return await search.find()
    finally:
        await backend.close()


FAULTS: dict[str, Callable[[World], Awaitable[object]]] = {
    "frozen-desk": lambda world: frozen(world, 0),
    "frozen-caller": lambda world: frozen(world, 1),
    "hub": hub_restarts,
    "clock": clock_is_set,
    "address": address_changes,
    "route": route_moves,
    "slow-name": hub_restarts,
    "dead-name": hub_restarts,
    "many": crowd_comes,
}


async def press_once(world: World, kind: str) -> float:
    """Do the fault, press, wait for the ring, hang up; returns the seconds from press to ring."""
    if world.names is not None:
        world.names.delay_s = {"slow-name": 3.0, "dead-name": None}[kind]
    for device in (world.caller, world.desk):
        device.mark()
    left = await FAULTS[kind](world)
    pressed = await world.caller.press()
    try:
        rang = float((await world.desk.state("ringing", LIMIT_S))["at"]) - pressed
    except EnvironmentFault:
        rang = LIMIT_S
    if isinstance(left, list):
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
    if world.names is not None:
        world.names.delay_s = 0.0
    await world.caller.press()  # hangs up
    await world.caller.state("idle", LIMIT_S)
    await asyncio.sleep(CALM_S)
    world.number += 1
    return rang


async def series(kind: str, presses: int, say: Callable[[str], object]) -> list[float]:
    """All presses after one kind of fault."""
    with tempfile.TemporaryDirectory(prefix="voicemeet-faults-") as scratch:
        async with AsyncExitStack() as stack:
            world = await build(kind, stack, Path(scratch))
            await asyncio.sleep(CALM_S)
            times = []
            for number in range(presses):
                times.append(await press_once(world, kind))
                say(f"  {kind} {number + 1:>2}: rings after {times[-1]:.2f} s")
            return times


def row(kind: str, times: list[float]) -> str:
    """One line of the table."""
    median, p95 = np.quantile(np.array(times), (0.5, 0.95))
    return f"{kind:<14}{len(times):>4}{median:>9.2f} s{p95:>7.2f} s{max(times):>7.2f} s{BUDGET_S:>7.1f} s"


def main(arguments: list[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Do the faults and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presses", type=int, default=20)
    parser.add_argument("--kind", choices=KINDS, action="append", help="one or several; all when left out")
    options = parser.parse_args(arguments)
    rows = []
    for kind in options.kind or KINDS:
        if kind in IN_NAMESPACES and (reason := unavailable()):
            say(f"{kind}: {reason}")
            continue
        rows.append(row(kind, asyncio.run(series(kind, options.presses, say))))
        time.time = REAL_TIME
    say("\npress to ring   n    median      p95      max  budget\n" + "\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
