"""A day of faults: `python -m bench.soak [--hours 24] [--seed 1] [--plot docs/images/soak.png]`.

Two devices (processes of their own), the hub and its relay, as root each on a node of a network made for it.
Each twenty minutes of a day hold one call and one fault, drawn by the seed; the time between is left
out, and so 24 hours take less than 30 minutes.

frozen    the WebSocket of one device is dead and nobody said so, then somebody presses call
hub       the hub is restarted, then somebody presses call
clock     the hub's clock is set by three days
storm     twenty presses in three seconds
power     a device loses power and comes back
card      the card is unplugged in a call, for one to four seconds
relay     the TURN server is killed in a call
cut       the network of one device is cut in a call, for three to eight seconds (as root)
disk      the hub's disk is full and it is restarted; people call, and then there is room again (as root)

Printed for each kind: how often, how long until it worked again after the fault was over (median, p95,
longest), and how often not at all within a minute. Then what each process held in the first hour and at the
end: memory, threads, files, sockets of the relay. The exit status is 1 when something did not come back, p95
is over the budget, or something grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from bench.call_soak import sockets_of
from bench.faults import REAL_TIME, Hub
from bench.recovery import kill_turn, turn_is_back, turn_pid
from voicemeet_edge.demo.lab import LOOPBACK, LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import BETWEEN_PRESSES_S, RemoteDevice
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.testing.network import BridgedNetwork, unavailable
from voicemeet_edge.testing.proxy import FreezingProxy

EPISODES_PER_HOUR = 3
BUDGET_S = 5.0  # s, p95 of coming back
LIMIT_S = 60.0  # s after which something has not come back
TALK_S = 1.0  # s of talk in each episode
SETTLE_S = 2.2  # s between two episodes: somebody walks up
GROWTH_KB = 12_000  # of memory: devices are of different age, and a first sentence spoken leaves 5,000
NAMES = ("gate", "desk")
DISK_KB = 24_576  # of the hub's own disk
CUT_S = (3.0, 8.0)  # s without network; long enough to be noticed by both


@dataclass
class World:
    """What faults are done to."""

    directory: Path
    hub: Hub
    proxies: dict[str, FreezingProxy]
    stack: AsyncExitStack
    random: random.Random
    network: BridgedNetwork | None = None
    devices: dict[str, RemoteDevice] = field(default_factory=dict)
    clock_days: int = 0

    @property
    def address(self) -> str:
        """Where the hub is."""
        return LOOPBACK if self.network is None else self.network.address("hub")

    async def start(self, name: str) -> None:
        """Switch a device on."""
        table = device_settings(self.hub.info, LabCall(), {})
        table["backend"]["url"] = f"http://{self.address}:{self.proxies[name].port}"
        prefix: list[str] = []
        if self.network is not None:
            table["backend"]["allow_plaintext"] = True
            table["ice"] = {"policy": "relay", "ipv6": False}  # whatever address the node has
            prefix = self.network.command(name)
        device = await RemoteDevice.start(table, self.directory, name, prefix=prefix)
        self.stack.push_async_callback(device.stop)
        await device.expect("backend", LIMIT_S, up=True)
        self.devices[name] = device

    async def call(self) -> None:
        """Press at both and wait until both hear."""
        for device in self.devices.values():
            await device.press()
        for device in self.devices.values():
            await device.expect("first_audio", LIMIT_S)

    async def hang_up(self) -> None:
        """End the call where it goes on, and wait until both are idle."""
        gate, desk = self.devices.values()
        desk.mark()
        if gate.last("state")["state"] != "idle":
            await gate.press()
        for device in (gate, desk):
            if device.last("state")["state"] != "idle":
                await device.state("idle", LIMIT_S)


async def frozen(world: World) -> float:
    """A dead WebSocket."""
    world.proxies[world.random.choice(NAMES)].freeze()
    return await _press(world)


async def hub(world: World) -> float:
    """A new start of the hub; it counts from when the hub answers again."""
    await world.hub.restart()
    return await _press(world)


async def clock(world: World) -> float:
    """The clock is set."""
    world.clock_days += world.random.choice((-3, 3))
    days = world.clock_days
    time.time = lambda: REAL_TIME() + days * 86_400.0
    return await _press(world)


async def storm(world: World) -> float:
    """Somebody hammers on the button."""
    gate = world.devices["gate"]
    for _ in range(20):
        await gate.tell("call")
        await asyncio.sleep(0.15)
    await asyncio.sleep(BETWEEN_PRESSES_S)  # what comes any sooner is a bounce of the last
    await _calm_down(gate)
    return await _press(world)


async def _calm_down(device: RemoteDevice) -> None:
    """Press until the device is idle; while a call ends a press would ask for the next one."""
    deadline = time.monotonic() + LIMIT_S
    while (state := device.last("state")["state"]) != "idle":
        device.mark()
        if state != "ended":
            await device.press()
        await device.expect("state", deadline - time.monotonic())


async def power(world: World) -> float:
    """Power goes and comes; it counts from the press when the device is on line."""
    name = world.random.choice(NAMES)
    world.devices[name].kill()
    await world.start(name)
    world.devices = {one: world.devices[one] for one in NAMES}
    return await _press(world)


async def card(world: World) -> float:
    """The card is away for a while, in a call."""
    await world.call()
    device = world.devices[world.random.choice(NAMES)]
    device.mark()
    await device.tell("unplug")
    await device.expect("microphone", LIMIT_S, open=False)
    await asyncio.sleep(world.random.uniform(1.0, 4.0))
    device.mark()
    await device.tell("replug")
    begun = time.monotonic()
    await device.expect("microphone", LIMIT_S, open=True)
    return time.monotonic() - begun


async def relay(world: World) -> float:
    """The TURN server dies in a call; it counts from when it takes connections again."""
    await world.call()
    await asyncio.sleep(TALK_S)
    for device in world.devices.values():
        device.mark()
    kill_turn(world.directory)
    await _one_notices(world)
    begun = await turn_is_back(world.hub.info)
    await _both_hear(world)
    return time.monotonic() - begun


async def _one_notices(world: World) -> None:
    """Wait until one end says that the line is lost; its offer may mend it before the other has noticed."""
    waiting = [
        asyncio.create_task(device.state("reconnecting", LIMIT_S)) for device in world.devices.values()
    ]
    done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    for task in done:
        task.result()


async def _both_hear(world: World) -> None:
    """Wait until both ends talk, and get packets of each other."""
    for device in world.devices.values():
        if device.last("state")["state"] != "talking":
            device.mark()
            await device.state("talking", LIMIT_S)
    for device in world.devices.values():
        before = (await device.stats())["engine"]["packets_received"]
        deadline = time.monotonic() + LIMIT_S
        while (await device.stats())["engine"]["packets_received"] == before:
            if time.monotonic() > deadline:
                raise EnvironmentFault(f"{device.name} hears nothing", code="timeout")
            await asyncio.sleep(0.02)


async def cut(world: World) -> float:
    """Somebody pulls a cable in a call; it counts from when it is plugged in again."""
    await world.call()
    await asyncio.sleep(TALK_S)
    for device in world.devices.values():
        device.mark()
    name = world.random.choice(NAMES)
    _plug(world, name, "down")
    await _one_notices(world)
    await asyncio.sleep(world.random.uniform(*CUT_S) - CUT_S[0])
    begun = time.monotonic()
    _plug(world, name, "up")
    await _both_hear(world)
    return time.monotonic() - begun


def _plug(world: World, name: str, way: str) -> None:
    """Pull the cable of a node out of the switch, or put it in."""
    assert world.network is not None
    switch = world.network.namespace(name).rpartition("n")[0] + "s"
    port = f"port{world.network.nodes.index(name)}"
    subprocess.run(["ip", "-n", switch, "link", "set", port, way], check=True, timeout=5)


async def disk(world: World) -> float:
    """No room on the hub's disk, over a new start; people call. It counts from when there is room again."""
    filling = world.directory / "hub" / "filling"
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        await world.hub.restart()
        await world.call()
        await world.hang_up()
        await asyncio.sleep(SETTLE_S)
    finally:
        filling.unlink()
    return await _press(world)


async def _press(world: World) -> float:
    """Call, and say how long it took until both heard."""
    begun = time.monotonic()
    await world.call()
    return time.monotonic() - begun


KINDS: dict[str, Callable[[World], Awaitable[float]]] = {
    one.__name__: one for one in (frozen, hub, clock, storm, power, card, relay, cut, disk)
}
AS_ROOT = ("cut", "disk")


@dataclass
class Day:
    """What came of it."""

    seed: int
    back_s: list[tuple[str, float]] = field(default_factory=list)
    """Kind and seconds, in order."""
    lost: list[str] = field(default_factory=list)
    """Kinds of what did not come back."""
    held: list[dict[str, int]] = field(default_factory=list)
    """By hour: what each process held."""

    def growth(self) -> dict[str, int]:
        """From the first hour to the last."""
        first, last = self.held[0], self.held[-1]
        return {name: last[name] - first[name] for name in first}


async def census(world: World) -> dict[str, int]:
    """Count in every process, between calls."""
    held: dict[str, int] = {}
    for name, device in world.devices.items():
        stats = await device.stats()
        for what in ("threads", "files", "tasks", "anonymous_kb"):
            held[f"{name} {what}"] = int(stats[what])
    held["relay sockets"] = sockets_of(turn_pid(world.directory))
    return held


async def episode(world: World, kind: str, day: Day) -> None:
    """One fault and what follows; whatever happens, the next begins with two idle devices."""
    try:
        day.back_s.append((kind, await KINDS[kind](world)))
        await asyncio.sleep(TALK_S)
        await world.hang_up()
    except EnvironmentFault as error:
        day.lost.append(kind)
        print(f"  {kind}: {error}", file=sys.stderr)
        for name in NAMES:
            world.devices[name].kill()
            await world.start(name)
    await asyncio.sleep(SETTLE_S)


async def build(directory: Path, stack: AsyncExitStack, seed: int) -> World:
    """A hub and two devices: as root on nodes of their own and with a small disk, else on loopback."""
    network = None
    settings = hub_settings(directory)
    if unavailable() is None:
        network = stack.enter_context(BridgedNetwork((*NAMES, "hub")))
        # For good: what the hub opens and starts later is on its node, too.
        stack.enter_context(network.inside("hub"))
        here = network.address("hub")
        http = replace(settings.http, listen=(here,), allow_plaintext=True)
        turn = replace(settings.turn, listen=(here,), relay_address=here)
        settings = replace(settings, http=http, turn=turn)
        _mount(settings.state_dir, stack)
    hub_at = Hub(settings, contextlib.nullcontext)
    await hub_at.start()
    stack.push_async_callback(hub_at.stop)
    world = World(directory, hub_at, {}, stack, random.Random(seed), network)
    for name in NAMES:
        proxy = FreezingProxy(hub_at.info.port, world.address, listen=world.address)
        world.proxies[name] = await stack.enter_async_context(proxy)
        await world.start(name)
    return world


def _mount(place: Path, stack: AsyncExitStack) -> None:
    """Give the hub a disk that can be full, and as systemd does a folder in memory beside it."""
    place.mkdir()
    running = place.with_name("run")
    running.mkdir(mode=0o700)
    os.environ["RUNTIME_DIRECTORY"] = str(running)
    stack.callback(os.environ.pop, "RUNTIME_DIRECTORY")
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KB}k,mode=0700", "tmpfs", str(place)]
    subprocess.run(words, check=True, timeout=5)
    stack.callback(subprocess.run, ["umount", "--lazy", str(place)], check=False, timeout=5)


async def live(hours: int, seed: int, say: Callable[[str], object], kinds: Sequence[str] = ()) -> Day:
    """Live through a day, of all kinds of faults or of these."""
    day = Day(seed)
    with tempfile.TemporaryDirectory(prefix="voicemeet-day-") as folder:
        async with AsyncExitStack() as stack:
            stack.callback(setattr, time, "time", REAL_TIME)
            world = await build(Path(folder), stack, seed)
            chosen = list(kinds or KINDS)
            if world.network is None:
                say(f"without {' and '.join(AS_ROOT)}: {unavailable()}")
                chosen = [kind for kind in chosen if kind not in AS_ROOT]
            for hour in range(hours):
                for _ in range(EPISODES_PER_HOUR):
                    await episode(world, world.random.choice(chosen), day)
                day.held.append(await census(world))
                say(f"hour {hour + 1}: {len(day.back_s)} came back, {len(day.lost)} did not")
    return day


def table(day: Day) -> tuple[str, bool]:
    """Return what a person reads, and whether all is well."""
    lines, good = (
        [f"seed {day.seed}; seconds until it worked again, budget p95 {BUDGET_S:.0f} s", ""],
        not day.lost,
    )
    lines.append(f"{'fault':8} {'times':>6} {'median':>8} {'p95':>8} {'longest':>8} {'never':>6}")
    for kind in (*KINDS, "all"):
        times = np.array([seconds for one, seconds in day.back_s if kind in (one, "all")])
        never = sum(kind in (one, "all") for one in day.lost)
        if len(times):
            p95 = float(np.quantile(times, 0.95))
            good = good and (kind != "all" or p95 <= BUDGET_S)
            figures = f"{np.median(times):8.2f} {p95:8.2f} {times.max():8.2f}"
            lines.append(f"{kind:8} {len(times) + never:6} {figures} {never:6}")
    lines += ["", f"{'held':20} {'first hour':>10} {'last':>8} {'growth':>8}"]
    for name, growth in day.growth().items():
        lines.append(f"{name:20} {day.held[0][name]:10} {day.held[-1][name]:8} {growth:+8}")
        good = good and growth <= (GROWTH_KB if name.endswith("_kb") else 4)
    return "\n".join(lines), good


def plot(day: Day, file: Path) -> None:
    """Draw the day: each fault where it happened, and memory over the hours."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, figsize=(9, 6), sharex=True, layout="constrained")
    for kind in KINDS:
        points = [
            (number / EPISODES_PER_HOUR, s) for number, (one, s) in enumerate(day.back_s) if one == kind
        ]
        if points:
            above.plot(*zip(*points, strict=True), "o", markersize=4, label=kind)
    above.axhline(BUDGET_S, color="0.6", linewidth=1)
    above.set(ylabel="s until it worked again", title=f"a day of faults, seed {day.seed}")
    above.legend(ncols=4, fontsize="small")
    hours = range(1, len(day.held) + 1)
    for name in NAMES:
        below.plot(
            hours, [held[f"{name} anonymous_kb"] / 1024 for held in day.held], label=f"{name}: memory, MB"
        )
        below.plot(hours, [held[f"{name} files"] for held in day.held], "--", label=f"{name}: open files")
    below.plot(hours, [held["relay sockets"] for held in day.held], ":", label="relay: sockets")
    below.set(xlabel="hour", ylim=(0, None))
    below.legend(ncols=3, fontsize="small")
    figure.savefig(file, dpi=110)


def main(arguments: list[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Live, print, draw."""
    parser = argparse.ArgumentParser(prog="bench.soak", description="Live through a day of faults.")
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(2)))
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--kind", choices=KINDS, action="append", default=[], help="one or several; else all")
    options = parser.parse_args(arguments)
    say(f"seed {options.seed}")
    day = asyncio.run(live(options.hours, options.seed, say, options.kind))
    text, good = table(day)
    say("\n" + text)
    if options.plot is not None:
        plot(day, options.plot)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
