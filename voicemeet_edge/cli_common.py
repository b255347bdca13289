"""What the commands share: where settings are, `--config`, small files, and an end by signal."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING

from voicemeet_edge.errors import LocalError

DEVICE_SETTINGS = Path("/boot/firmware/voicemeet.toml")
HUB_SETTINGS = Path("/etc/voicemeet/hub.toml")
MAX_KEY_FILE = 4_096  # characters of a file with keys; two have less than a hundred

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add_config(parser: argparse.ArgumentParser, default: Path) -> None:
    """Add --config."""
    parser.add_argument(
        "--config", type=Path, default=default, metavar="FILE", help=f"settings file (default: {default})"
    )


def run_until_signal(work: Coroutine[object, object, None]) -> None:
    """Run until done, SIGTERM or SIGINT; both cancel, so that goodbyes are said."""

    async def main_task() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            pass

    asyncio.run(main_task())


def text_of(name: str) -> str:
    """Read a small file, or standard input for "-"."""
    try:
        if name == "-":
            return sys.stdin.read(MAX_KEY_FILE)
        with open(name) as file:
            return file.read(MAX_KEY_FILE)
    except (OSError, UnicodeDecodeError):
        raise LocalError(f"{name}: not a readable text file", code="unreadable") from None
