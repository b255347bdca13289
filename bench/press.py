"""From the press to the first audio, both ends, over many calls: `python -m bench.press [--hosted]`.

Two devices, a hub and a TURN server, each a process of its own, on loopback; one device is already
looking, the other presses call. The time runs from that press to the first sample of the peer's voice
handed to each loudspeaker. Memory of each process is read in the last call.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from voicemeet_edge.call.machine import REPEAT_PRESS_S
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.testing.stalls import StallWatch

LOOKING_S = 0.25  # s between the first press and the second: both are people
TALK_S = 0.3  # s of talk before the next call
BUDGET_MS = {"direct": 400, "relay": 600}
HOSTED_BUDGET_MS = {"direct": 450, "relay": 700}

Backend = Callable[[Path], AbstractAsyncContextManager[HubInfo]]


@dataclass
class Presses:
    """What one series gave; milliseconds and megabytes."""

    times_ms: list[float] = field(default_factory=list)
    first_ms: float = 0.0
    stalled: int = 0
    resident_mb: dict[str, float] = field(default_factory=dict)
    anonymous_mb: dict[str, float] = field(default_factory=dict)

    def quantile(self, share: float) -> float:
        """A quantile of the times, the first call of the processes left out."""
        return float(np.quantile(np.array(self.times_ms), share))


def memory_mb(pid: int) -> tuple[float, float]:
    """Resident and anonymous memory of a process, in MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) for line in rollup if line.endswith("kB")}
    return found["Rss"] / 1024, found["Anonymous"] / 1024


def hub(directory: Path) -> AbstractAsyncContextManager[HubInfo]:
    """Run a hub with its TURN server."""
    return running_hub(hub_settings(directory))


async def series(
    policy: str, calls: int, directory: Path, say: Callable[[str], object], backend: Backend = hub
) -> Presses:
    """Make this many calls one after the other."""
    result = Presses()
    async with backend(directory) as info:
        devices = [
            await RemoteDevice.start(
                device_settings(info, LabCall(policy=policy), {"virtual_in": "speech"}), directory, name
            )
            for name in ("a", "b")
        ]
        try:
            for device in devices:
                await device.expect("backend", up=True)
            for number in range(calls + 1):
                await _one_call(devices, number, result, info)
                if number and number % 10 == 0:
                    say(f"  {policy}: {number} of {calls} calls")
        finally:
            for device in devices:
                await device.stop()
    return result


async def _one_call(devices: list[RemoteDevice], number: int, result: Presses, info: HubInfo) -> None:
    first, second = devices if number % 2 else devices[::-1]
    with StallWatch() as stalls:
        await first.press()
        await first.expect("lamp", lamp="seeking")
        await asyncio.sleep(LOOKING_S)
        pressed = await second.press()
        heard = [float((await device.expect("first_audio"))["at"]) for device in devices]
    times = [(at - pressed) * 1000 for at in heard]
    if number == 0:
        result.first_ms = max(times)
    elif stalls.longest_s > 0.05:
        result.stalled += 1  # the machine stood still: the figure would be its own, not ours
    else:
        result.times_ms += times
    await asyncio.sleep(TALK_S)
    for name, pid in (("device", first.pid), ("coturn", info.coturn_pid)):
        if pid is not None:
            result.resident_mb[name], result.anonymous_mb[name] = await asyncio.to_thread(memory_mb, pid)
    for device in devices:
        device.mark()
    await second.tell("call")
    for device in devices:
        await device.state("idle")
    await asyncio.sleep(REPEAT_PRESS_S)  # a second press sooner counts as a bounce of the first


def table(results: dict[str, Presses], budget_ms: dict[str, int]) -> str:
    """The figures, as a person reads them."""
    lines = ["press to audio    median     p95     max   first call   budget   calls (left out for stalls)"]
    for policy, result in results.items():
        lines.append(
            f"{policy:<16}{result.quantile(0.5):>5.0f} ms{result.quantile(0.95):>5.0f} ms"
            f"{max(result.times_ms):>5.0f} ms{result.first_ms:>8.0f} ms{budget_ms[policy]:>8} ms"
            f"{len(result.times_ms) // 2:>6} ({result.stalled})"
        )
    last = next(reversed(results.values()))
    for name, resident in last.resident_mb.items():
        lines.append(
            f"memory in a call: {name:<8} {resident:.0f} MB resident, {last.anonymous_mb[name]:.0f} anonymous"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Run both series and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--calls", type=int, default=50, help="calls of each kind (default: 50)")
    parser.add_argument(
        "--hosted", action="store_true", help="over the hosted backend on loopback, through its door"
    )
    options = parser.parse_args(arguments)
    backend, budget_ms = hub, BUDGET_MS
    if options.hosted:
        from bench.hosted import backend_behind_door

        backend, budget_ms = backend_behind_door, HOSTED_BUDGET_MS
    results = {}
    for policy in ("direct", "relay"):
        with tempfile.TemporaryDirectory(prefix="voicemeet-bench-") as scratch:
            results[policy] = asyncio.run(series(policy, options.calls, Path(scratch), say, backend))
    say(table(results, budget_ms))
    return 0 if all(result.times_ms for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
