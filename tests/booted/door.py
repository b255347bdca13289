"""The device as its unit starts it, on a board in memory; run inside the booted system.

`hands` in the unit's runtime folder is a FIFO for what a person or a fault does, one line each:
"press GPIO17", "release GPIO17", "hang signaling".
"""

import asyncio
import os
import sys
import threading
from pathlib import Path

from voicemeet_edge.cli import main
from voicemeet_edge.panel import gpiod_factory
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.system import watchdog
from voicemeet_edge.system.life import Part
from voicemeet_edge.testing.gpio import FakeGpiod

SIGNALING_LIMIT_S = (
    35.0  # s, longer than the 25 s between two heartbeats; the product allows a slow connect, too
)

board = FakeGpiod()
hang = threading.Event()
real_run = RealtimeSocket.run


def take_hands(path: Path) -> None:
    """Do what is written into the FIFO."""
    os.mkfifo(path)
    while True:
        for line in path.read_text().splitlines():
            verb, name = line.split()
            if verb == "hang":
                hang.set()
            else:
                getattr(board, verb)(name)


async def run_until_told(self: RealtimeSocket) -> None:
    """Be the real thing until told, then stand still without an error, as a wait that never ends does."""
    running = asyncio.ensure_future(real_run(self))
    while not hang.is_set():  # noqa: ASYNC110 - set by another thread
        await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.Event().wait()


gpiod_factory.RealGpiod = lambda: board  # type: ignore[assignment,attr-defined,return-value]
RealtimeSocket.run = run_until_told  # type: ignore[method-assign]
watchdog.LIMITS_S[Part.SIGNALING] = SIGNALING_LIMIT_S  # type: ignore[index]
hands = Path(os.environ["RUNTIME_DIRECTORY"], "hands")
threading.Thread(target=take_hands, args=(hands,), daemon=True).start()
sys.exit(main())
