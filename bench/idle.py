"""What a device costs that nobody uses: `python -m bench.idle [--seconds 30] [--starts 5]`.

First some starts: from the process's beginning to READY, as systemd is told it, by the command line that the
unit runs, with gpiozero's mock panel and a card in memory. Then one device at a hub, with the panel of a box
on lines in memory: for each of its threads the share of one core and how often it woke (voluntary context
switches), as the kernel counts them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import to_toml
from voicemeet_edge.hub.app import HubInfo, running_hub

START_BUDGET_S = 1.0  # s from the process's beginning to READY
STOP_BUDGET_S = 3.0  # s from SIGTERM to the end
CPU_BUDGET = 0.003  # of one core
SETTLE_S = 8.0  # s after READY: the sound threads have closed the card again, the connection stands
START_LIMIT_S = 30.0  # s
RUN = "import sys; from voicemeet_edge.cli import main; sys.exit(main(['run', '--config', sys.argv[1]]))"


class Spent(NamedTuple):
    """What one thread has used up."""

    name: str
    cpu_ns: int
    wakes: int


def threads_of(pid: int) -> dict[int, Spent]:
    """Read what each thread of a process has used since it began."""
    spent = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines())
        cpu_ns = int((task / "schedstat").read_text().split()[0])
        spent[int(task.name)] = Spent(status["Name"], cpu_ns, int(status["voluntary_ctxt_switches"]))
    return spent


def between(before: dict[int, Spent], after: dict[int, Spent]) -> list[Spent]:
    """Return what each thread used in between, the most wakeful first."""
    rows = []
    for task, now in after.items():
        then = before.get(task, Spent(now.name, 0, 0))
        rows.append(Spent(now.name, now.cpu_ns - then.cpu_ns, now.wakes - then.wakes))
    return sorted(rows, key=lambda row: row.wakes, reverse=True)


@dataclass
class Service:
    """A running device, and what it took."""

    pid: int
    ready_s: float
    stopped_s: float = 0.0
    """From SIGTERM to its end; known then."""


def drain(told: socket.socket) -> None:
    """Read what a device tells, as systemd does; else it waits for room each time."""
    with suppress(OSError):
        told.settimeout(None)
        while told.recv(4096):
            pass


@contextmanager
def service(command: Sequence[str], directory: Path) -> Iterator[Service]:
    """Run a command as systemd would, from when it says READY until the block ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        path = directory / "notify"
        path.unlink(missing_ok=True)
        told.bind(str(path))
        told.settimeout(START_LIMIT_S)
        begun = time.monotonic()
        log = (directory / "device.log").open("ab")
        process = subprocess.Popen(
            command, stderr=log, stdout=log, env={**os.environ, "NOTIFY_SOCKET": str(path)}
        )
        try:
            while b"READY=1" not in told.recv(4096):
                pass
            running = Service(process.pid, time.monotonic() - begun)
            threading.Thread(target=drain, args=(told,), daemon=True).start()
            yield running
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.wait(START_LIMIT_S)
            running.stopped_s = time.monotonic() - begun
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            told.shutdown(socket.SHUT_RD)
            log.close()


def settings_file(info: HubInfo, directory: Path, factory: str) -> Path:
    """Write the settings of a box that tests nothing by itself meanwhile."""
    table = device_settings(info, LabCall(policy="direct"), {})
    table["panel"] = {"factory": factory}
    table["status"] = {"self_test_at": ""}
    file = directory / f"{factory}.toml"
    file.touch(mode=0o600)
    file.write_text(to_toml(table))
    return file


def start_once(config: Path, directory: Path) -> Service:
    """Start a device and stop it."""
    with service([sys.executable, "-I", "-c", RUN, str(config)], directory) as running:
        pass
    return running


def be_idle(config: Path, directory: Path, seconds: float) -> list[Spent]:
    """Let a device be for so long; returns what each thread used."""
    with service([sys.executable, "-m", "bench.idle", "--device", str(config)], directory) as running:
        time.sleep(SETTLE_S)
        before = threads_of(running.pid)
        time.sleep(seconds)
        return between(before, threads_of(running.pid))


def device(config: Path) -> None:
    """Be the device: all of it is real but the lines, which are in memory."""
    from voicemeet_edge import daemon
    from voicemeet_edge.cli_common import run_until_signal
    from voicemeet_edge.panel import gpiod_factory
    from voicemeet_edge.settings import Settings
    from voicemeet_edge.testing.gpio import FakeGpiod

    real = gpiod_factory.GpiodFactory
    setattr(gpiod_factory, "GpiodFactory", lambda: real(FakeGpiod()))  # noqa: B010 - a class, to mypy
    run_until_signal(daemon.run_device(Settings.load(config), config))


def table(rows: list[Spent], seconds: float) -> tuple[str, float]:
    """The figures as a person reads them, and the share of a core."""
    lines = [f"{'thread':<16}{'wakes/s':>9}{'% of a core':>13}"]
    for row in [*rows, Spent("all", sum(row.cpu_ns for row in rows), sum(row.wakes for row in rows))]:
        lines.append(f"{row.name:<16}{row.wakes / seconds:>9.2f}{row.cpu_ns / seconds / 1e7:>13.3f}")
    return "\n".join(lines), sum(row.cpu_ns for row in rows) / seconds / 1e9


async def measure(seconds: float, starts: int, directory: Path) -> tuple[list[Service], list[Spent]]:
    """Run a hub, and beside it all that is measured."""
    async with running_hub(hub_settings(directory, turn="off")) as info:
        mock = settings_file(info, directory, "mock")
        took = [await asyncio.to_thread(start_once, mock, directory) for _ in range(starts)]
        rows = await asyncio.to_thread(be_idle, settings_file(info, directory, "gpiod"), directory, seconds)
    return took, rows


def main(arguments: list[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=30.0, help="of being idle (default: 30)")
    parser.add_argument("--starts", type=int, default=5, help="how many (default: 5)")
    parser.add_argument("--device", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.device:
        device(options.device)
        return 0
    with tempfile.TemporaryDirectory(prefix="voicemeet-idle-") as scratch:
        took, rows = asyncio.run(measure(options.seconds, options.starts, Path(scratch)))
    median = statistics.median(one.ready_s for one in took)
    stopped = statistics.median(one.stopped_s for one in took)
    text, share = table(rows, options.seconds)
    say(
        f"start to READY   median {median:.2f} s of {len(took)} starts (budget {START_BUDGET_S:.1f} s)\n"
        f"SIGTERM to end   median {stopped:.2f} s (budget {STOP_BUDGET_S:.1f} s)\n\n"
        f"{text}\n(budget {100 * CPU_BUDGET:.1f} % of a core)"
    )
    return 0 if median <= START_BUDGET_S and stopped <= STOP_BUDGET_S and share <= CPU_BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
