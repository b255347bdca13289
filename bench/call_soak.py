"""Calls in a row between the same two devices, and what grows: `python -m bench.call_soak [--calls N]`.

Two device processes, a hub and a real coturn on loopback, every call relayed. Counted between calls, when
everything of the last one must be gone: memory, threads, open files, tasks, and the sockets of coturn,
which has one more for each allocation.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.hub.app import running_hub

WARM_UP = 5  # calls before the first count: what is loaded or cached once is not growth
SETTLE_LIMIT_S = 20.0  # s for coturn to close the sockets of allocations that were given back
NAMES = ("a", "b")


@dataclass(frozen=True)
class Census:
    """What one process holds between two calls."""

    tasks: int
    threads: int
    files: int
    rss_kb: int
    anonymous_kb: int


@dataclass
class Series:
    """What a row of calls showed."""

    before: dict[str, Census] = field(default_factory=dict)
    after: dict[str, Census] = field(default_factory=dict)
    relay_before: int = 0
    relay_during: int = 0
    relay_after: int = 0
    press_to_audio_s: list[float] = field(default_factory=list)


async def one_call(
    one: RemoteDevice, other: RemoteDevice, *, relay_pid: int | None = None
) -> tuple[float, int]:
    """Call, hear each other, hang up; returns press to audio in seconds and coturn's sockets meanwhile."""
    await other.press()
    await other.expect("lamp", lamp="seeking")
    pressed = await one.press()
    for device in (one, other):
        heard = await device.expect("first_audio")
    relay = sockets_of(relay_pid) if relay_pid is not None else 0
    other.mark()
    await one.press()
    for device in (one, other):
        await device.state("idle")
    return float(heard["at"]) - pressed, relay


async def census(device: RemoteDevice) -> Census:
    """Count in one process."""
    stats = await device.stats()
    return Census(**{name: int(stats[name]) for name in Census.__dataclass_fields__})


def sockets_of(pid: int) -> int:
    """How many sockets a process holds."""
    folder = Path(f"/proc/{pid}/fd")
    found = 0
    for name in os.listdir(folder):
        try:
            found += os.readlink(folder / name).startswith("socket:")
        except OSError:
            continue  # closed meanwhile
    return found


async def settled_sockets(pid: int, wanted: int) -> int:
    """Coturn's sockets once they are as few as wanted, or what is still there after a while."""
    try:
        async with asyncio.timeout(SETTLE_LIMIT_S):
            while True:
                if sockets_of(pid) <= wanted:
                    break
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    return sockets_of(pid)


async def run_series(devices: Sequence[RemoteDevice], relay_pid: int, calls: int) -> Series:
    """Make the calls and count before and after; the same caller every time."""
    one, other = devices
    series = Series(relay_before=sockets_of(relay_pid))
    for _ in range(WARM_UP):
        await one_call(one, other)
    await settled_sockets(relay_pid, series.relay_before)
    series.before = {device.name: await census(device) for device in devices}
    for _ in range(calls):
        took_s, relay = await one_call(one, other, relay_pid=relay_pid)
        series.press_to_audio_s.append(took_s)
        series.relay_during = max(series.relay_during, relay)
    series.relay_after = await settled_sockets(relay_pid, series.relay_before)
    series.after = {device.name: await census(device) for device in devices}
    return series


async def soak(calls: int) -> Series:
    """Start everything in a directory of its own and make the calls."""
    with tempfile.TemporaryDirectory(prefix="voicemeet-soak-") as folder:
        async with AsyncExitStack() as stack:
            directory = Path(folder)
            info = await stack.enter_async_context(running_hub(hub_settings(directory)))
            assert info.coturn_pid is not None
            devices = []
            for name in NAMES:
                # Heard into a file: kept in memory, what was heard would look like growth.
                sound = {"virtual_in": "speech", "virtual_out": str(directory / f"heard-by-{name}.wav")}
                settings = device_settings(info, LabCall(), sound)
                device = await RemoteDevice.start(settings, directory, name)
                stack.push_async_callback(device.stop)
                await device.expect("backend", up=True)
                devices.append(device)
            return await run_series(devices, info.coturn_pid, calls)


def show(series: Series, calls: int) -> None:
    """Print what grew."""
    print(f"{calls} relayed calls between the same two devices, after {WARM_UP} to warm up\n")
    print(f"{'process':10} {'what':14} {'before':>8} {'after':>8} {'growth':>8}")
    for name in NAMES:
        for what in Census.__dataclass_fields__:
            before, after = (getattr(side[name], what) for side in (series.before, series.after))
            print(f"{'device ' + name:10} {what:14} {before:8} {after:8} {after - before:+8}")
    before, after = series.relay_before, series.relay_after
    grown = f"{before:8} {after:8} {after - before:+8}"
    print(f"{'coturn':10} {'sockets':14} {grown}  (most: {series.relay_during})")
    times = sorted(1000 * took_s for took_s in series.press_to_audio_s)
    p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
    figures = (statistics.median(times), p95, times[-1])
    print("\npress to audio: median {:.0f} ms, p95 {:.0f} ms, max {:.0f} ms".format(*figures))


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=200, help="calls that are counted")
    options = parser.parse_args()
    show(asyncio.run(soak(options.calls)), options.calls)


if __name__ == "__main__":
    main()
