"""The board of docs/grafana.json with figures of real calls: `python -m tests.board_picture OUT`.

A hub with its relay and two devices that call each other, a real Prometheus (Debian package prometheus, or
--prometheus FILE) that asks all three, and each panel's own queries put to it. It is drawn here, panel by
panel where the board has it, and not by Grafana.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl

from tests.ports import reserved_port
from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import to_toml
from voicemeet_edge.hub.app import HubInfo, running_hub
from voicemeet_edge.hub.metrics import HubCollector, on_loop
from voicemeet_edge.system.metrics import Metrics
from voicemeet_edge.testing.gpio import FakeGpiod

BOARD = Path(__file__).parent.parent / "docs" / "grafana.json"
NAMES = ("gate", "garage")
FIRST_S = 60.0  # s until the first call: behind the self-test
PRESS_S = 0.15  # s a finger stays on the button
TALK_S, REST_S = 9.0, 5.0  # s of each call, and between two
STEP_S = 2  # s between two questions of Prometheus
Series = dict[str, Any]


async def be_device(config: Path, number: int) -> None:
    """Be a device whose call button somebody presses again and again."""
    from voicemeet_edge import daemon
    from voicemeet_edge.panel.buttons import GpioPanel
    from voicemeet_edge.panel.gpiod_factory import GpiodFactory
    from voicemeet_edge.settings import Settings

    board, settings = FakeGpiod(), Settings.load(config)
    daemon.__dict__["open_panel"] = lambda panel: GpioPanel(panel, GpiodFactory(board))

    async def press() -> None:
        board.press("GPIO17")
        await asyncio.sleep(PRESS_S)
        board.release("GPIO17")

    async def people() -> None:
        await asyncio.sleep(FIRST_S + number)
        while True:
            await press()
            await asyncio.sleep(TALK_S)
            if number == 0:
                await press()  # hangs up
            await asyncio.sleep(REST_S + number * PRESS_S)

    beside = asyncio.create_task(people())
    try:
        await daemon.run_device(settings, config)
    finally:
        beside.cancel()


@contextlib.contextmanager
def device(info: HubInfo, folder: Path, number: int, port: int) -> Iterator[None]:
    """Run one in a process of its own."""
    table = device_settings(info, LabCall(), {"virtual_in": "speech"})
    table["panel"] = {"factory": "gpiod"}
    table["status"] = {"metrics": f"127.0.0.1:{port}", "name": NAMES[number]}
    file = folder / f"{NAMES[number]}.toml"
    file.touch(mode=0o600)
    file.write_text(to_toml(table))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.board_picture", str(file), "--device", str(number)]
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def prometheus(program: str, folder: Path, ports: dict[str, int]) -> Iterator[str]:
    """Let it ask; gives where it is asked."""
    jobs = "".join(
        f"      - targets: ['127.0.0.1:{port}']\n        labels: {{instance: {name}}}\n"
        for name, port in ports.items()
    )
    config = folder / "prometheus.yml"
    config.write_text(
        f"global:\n  scrape_interval: {STEP_S}s\nscrape_configs:\n  - job_name: voicemeet\n"
        f"    static_configs:\n{jobs}"
    )
    here = f"127.0.0.1:{reserved_port()}"
    words = [f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={here}"]
    process = subprocess.Popen([program, *words, "--log.level=error"])
    try:
        yield f"http://{here}/api/v1/"
    finally:
        process.terminate()
        process.wait(20)


def ask(url: str, what: str, **words: object) -> list[Series]:
    """Put a query."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}{what}?{urllib.parse.urlencode(words)}", timeout=20) as answer:
        return list(json.load(answer)["data"]["result"])


def name_of(series: Series, target: dict[str, str]) -> str:
    """What the board's legend calls it."""
    return re.sub(r"{{(\w+)}}", lambda found: series["metric"].get(found[1], ""), target["legendFormat"])


def draw_panel(axes: Any, panel: dict[str, Any], url: str, begun: float, now: float) -> None:
    """Draw one panel: lines over time, or the words of this moment."""
    axes.set_title(panel["title"], loc="left", fontsize=9)
    targets = panel["targets"]
    if panel["type"] == "timeseries":
        for target in targets:
            for one in ask(url, "query_range", query=target["expr"], start=begun, end=now, step=STEP_S):
                points = [(float(at) - begun, float(value)) for at, value in one["values"]]
                axes.plot(*zip(*points, strict=True), linewidth=1.3, label=name_of(one, target))
        axes.set_xlim(0, now - begun)
        axes.set_ylim(bottom=0)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.25)
        unit = panel["fieldConfig"]["defaults"]["unit"]
        axes.text(1, 1.02, unit, transform=axes.transAxes, ha="right", fontsize=7, color="0.5")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=6, frameon=False, ncols=2, loc="upper left")
        return
    axes.axis("off")
    now_told = [(name_of(one, it), one) for it in targets for one in ask(url, "query", query=it["expr"])]
    if panel["type"] == "stat":
        text, size = " / ".join(f"{float(one['value'][1]):g}" for _, one in now_told), 26
    else:
        text, size = "\n".join(f"{name}: {float(one['value'][1]):g}" for name, one in now_told) or "none", 9
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=size)


def draw(url: str, begun: float, out: Path) -> None:
    """Draw the board."""
    mpl.use("Agg")
    from matplotlib import pyplot

    board, now = json.loads(BOARD.read_text()), time.time()
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"]) // 7
    figure, grid = pyplot.subplots(rows, 3, figsize=(14, 2.1 * rows), layout="constrained")
    figure.suptitle(board["title"], x=0.01, ha="left", fontsize=13)
    for axes in grid.flat:
        axes.axis("off")
    for panel in board["panels"]:
        axes = grid[panel["gridPos"]["y"] // 7][panel["gridPos"]["x"] // 8]
        axes.axis("on")
        draw_panel(axes, panel, url, begun, now)
    figure.savefig(out, dpi=80)


async def main(out: Path, seconds: float, program: str) -> None:
    """Let people call for a while, and draw what was measured."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        ports = {one: reserved_port() for one in (*NAMES, "hub")}
        async with running_hub(hub_settings(folder)) as info:
            hub = Metrics(HubCollector(on_loop(info.figures, asyncio.get_running_loop())))
            hub.serve(f"127.0.0.1:{ports['hub']}")
            with contextlib.ExitStack() as stack:
                url = stack.enter_context(prometheus(program, folder, ports))
                for number, one in enumerate(NAMES):
                    stack.enter_context(device(info, folder, number, ports[one]))
                begun = time.time()
                await asyncio.sleep(seconds)
                await asyncio.to_thread(draw, url, begun, out)
            await asyncio.to_thread(hub.close)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the board of docs/grafana.json.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--prometheus", default="prometheus")
    parser.add_argument("--device", type=int)
    options = parser.parse_args()
    os.environ.pop("NOTIFY_SOCKET", None)
    if options.device is not None:
        from voicemeet_edge.cli_common import run_until_signal

        run_until_signal(be_device(options.file, options.device))
    else:
        asyncio.run(main(options.file, options.seconds, options.prometheus))
