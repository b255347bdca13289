"""How fast a call comes back: `python -m bench.recovery [--cuts 20] [--kind outage|roam|turn]`.

outage  The network between two devices (and to the hub) goes away for a while and comes back.
roam    One device loses its address and comes back with another one, as from Wi-Fi to cable.
turn    The TURN server that carries the voice is killed; the hub starts it again.

Printed per cut and as median and p95: how long until both ends say that the path is lost, and how long
after the network (or the TURN server) is back until both talk again. Needs root for the namespaces.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.settings import HttpSettings
from voicemeet_edge.testing.network import BridgedNetwork, ImpairedNetwork, Impairment, Network, unavailable
from voicemeet_edge.testing.stalls import StallWatch

OUTAGES_S = (2.5, 4.0, 6.0, 9.0)  # s, in turn; all longer than it takes to notice
TALK_S = 3.0  # s of talk before each cut
LIMIT_S = 120.0  # s after which a call has not come back; a hub waits up to 30 to restart a TURN
# server that died many times in a row, as it does here
NOTICE_BUDGET_S, BACK_BUDGET_S = 2.0, 3.0


@dataclass
class Cuts:
    """Seconds, one entry a cut."""

    noticed: list[float] = field(default_factory=list)
    back: list[float] = field(default_factory=list)
    stalled: int = 0

    def take(self, devices: list[RemoteDevice], cut: float, healed: float, lost: float, back: float) -> None:
        """Note a cut."""
        self.noticed.append(lost - cut)
        self.back.append(back - healed)


async def pair(
    stack: AsyncExitStack, info: HubInfo, directory: Path, policy: str, network: Network | None
) -> list[RemoteDevice]:
    """Two devices in a call with much patience, each on its node of the network if there is one."""
    devices = []
    for name in ("a", "b"):
        table = device_settings(info, LabCall(policy=policy), {"virtual_in": "speech"})
        table["call"]["reconnect_timeout_s"] = LIMIT_S
        prefix: list[str] = []
        if network is not None:
            table["backend"]["allow_plaintext"] = True
            table["ice"] = {"policy": policy, "ipv6": False}  # whatever address the node has
            prefix = network.command(name)
        device = await RemoteDevice.start(table, directory, name, prefix=prefix)
        stack.push_async_callback(device.stop)
        await device.expect("backend", up=True)
        devices.append(device)
    await talk(devices)
    return devices


async def talk(devices: list[RemoteDevice]) -> None:
    """Bring both into a call."""
    for device in devices:
        await device.press()
        await asyncio.sleep(0.3)
    for device in devices:
        await device.expect("first_audio")


async def latest(devices: list[RemoteDevice], state: str) -> float:
    """When the last of them said this state."""
    return max([float((await device.state(state, LIMIT_S))["at"]) for device in devices])


async def cut_once(
    devices: list[RemoteDevice],
    cuts: Cuts,
    cut: Callable[[], None],
    heal: Callable[[], object],
    away_s: float,
) -> None:
    """Cut, wait until noticed, heal, wait until they talk."""
    await asyncio.sleep(TALK_S)
    for device in devices:
        device.mark()
    with StallWatch() as stalls:
        at = time.monotonic()
        cut()
        lost = await latest(devices, "reconnecting")
        await asyncio.sleep(max(0.0, away_s - (time.monotonic() - at)))
        for device in devices:
            device.mark()
        healed = time.monotonic()
        result = heal()
        if asyncio.iscoroutine(result):
            healed = await result
        back = await latest(devices, "talking")
    cuts.stalled += stalls.longest_s > 0.2
    cuts.take(devices, at, healed, lost, back)


async def outages(count: int, directory: Path, say: Callable[[str], object]) -> Cuts:
    """The network goes away and comes back."""
    cuts = Cuts()
    with ImpairedNetwork(("a", "b", "hub")) as network:
        http = HttpSettings(listen=(network.address("hub"),), port=0, tls="off", allow_plaintext=True)
        async with AsyncExitStack() as stack:
            with network.inside("hub"):
                settings = replace(hub_settings(directory, turn="off"), http=http)
                info = await stack.enter_async_context(running_hub(settings))
            devices = await pair(stack, info, directory, "direct", network)
            for number in range(count):
                away_s = OUTAGES_S[number % len(OUTAGES_S)]
                await cut_once(
                    devices,
                    cuts,
                    lambda: network.impair(Impairment(outage=True)),
                    lambda: network.impair(Impairment()),
                    away_s,
                )
                say(line(number, away_s, cuts))
    return cuts


async def roaming(count: int, directory: Path, say: Callable[[str], object]) -> Cuts:
    """Device a loses its address and gets another."""
    cuts = Cuts()
    with BridgedNetwork(("a", "b", "hub")) as network:
        http = HttpSettings(listen=(network.address("hub"),), port=0, tls="off", allow_plaintext=True)
        async with AsyncExitStack() as stack:
            with network.inside("hub"):
                settings = replace(hub_settings(directory, turn="off"), http=http)
                info = await stack.enter_async_context(running_hub(settings))
            devices = await pair(stack, info, directory, "direct", network)
            base = network.address("a").rpartition(".")[0]
            for number in range(count):
                address = f"{base}.{100 + number}/24"
                await cut_once(
                    devices,
                    cuts,
                    lambda: set_address(network, None),
                    lambda address=address: set_address(network, address),  # type: ignore[misc]
                    OUTAGES_S[number % len(OUTAGES_S)],
                )
                say(line(number, OUTAGES_S[number % len(OUTAGES_S)], cuts))
    return cuts


def set_address(network: Network, address: str | None) -> None:
    """Give node a this address and no other, or none."""
    commands = [["ip", "-4", "addr", "flush", "dev", "eth0"]]
    if address is not None:
        commands.append(["ip", "addr", "add", address, "dev", "eth0"])
    for command in commands:
        subprocess.run(network.command("a", *command), check=True, timeout=5)


async def turn_restarts(count: int, directory: Path, say: Callable[[str], object]) -> Cuts:
    """The TURN server is killed and started again by its hub."""
    cuts = Cuts()
    async with AsyncExitStack() as stack:
        info = await stack.enter_async_context(running_hub(hub_settings(directory)))
        devices = await pair(stack, info, directory, "relay", None)
        for number in range(count):
            await cut_once(devices, cuts, lambda: kill_turn(directory), lambda: turn_is_back(info), 0.0)
            say(line(number, 0.0, cuts))
    return cuts


def kill_turn(directory: Path) -> None:
    """Kill the lab's own TURN server."""
    os.kill(turn_pid(directory), signal.SIGKILL)


def turn_pid(directory: Path) -> int:
    """The lab's own TURN server, by the pid that was written down."""
    folder = Path(os.environ.get("RUNTIME_DIRECTORY") or directory / "hub")
    return int((folder / "turnserver.pid").read_text())


async def turn_is_back(info: HubInfo) -> float:
    """Wait until the TURN server's port takes connections; returns the time."""
    assert info.turn is not None
    while True:
        try:
            _, writer = await asyncio.open_connection(info.turn.host, info.turn.port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        now = time.monotonic()
        writer.close()
        return now


def line(number: int, away_s: float, cuts: Cuts) -> str:
    """One cut."""
    away = f"away for {away_s:.1f} s" if away_s else "TURN server killed"
    noticed, back = cuts.noticed[-1], cuts.back[-1]
    return f"  cut {number + 1:>2}: {away}, noticed after {noticed:.2f} s, back after {back:.2f} s"


def table(kind: str, cuts: Cuts) -> str:
    """Median and p95."""
    rows = [f"{kind}, {len(cuts.back)} cuts            median     p95   budget"]
    for name, values, budget in (
        ("noticed by both ends after", cuts.noticed, NOTICE_BUDGET_S),
        ("talking again after it is back", cuts.back, BACK_BUDGET_S),
    ):
        median, p95 = np.quantile(np.array(values), (0.5, 0.95))
        rows.append(f"{name:<32}{median:>6.2f} s{p95:>6.2f} s{budget:>6.1f} s")
    if cuts.stalled:
        rows.append(f"the machine stood still for over 0.2 s during {cuts.stalled} of the cuts")
    return "\n".join(rows)


def main(arguments: list[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Run the cuts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--kind", choices=("outage", "roam", "turn"), default="outage")
    options = parser.parse_args(arguments)
    if options.kind != "turn" and (reason := unavailable()):
        say(reason)
        return 1
    work = {"outage": outages, "roam": roaming, "turn": turn_restarts}[options.kind]
    with tempfile.TemporaryDirectory(prefix="voicemeet-bench-") as scratch:
        cuts = asyncio.run(work(options.cuts, Path(scratch), say))
    say(table(options.kind, cuts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
