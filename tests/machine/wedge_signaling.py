"""Run inside the machine as a device whose signaling can be made to hang, from outside and for good."""

import asyncio
import os
import sys

sys.path.insert(0, "/usr/lib/voicemeet-edge")  # where the package has it, as its own launcher knows

from voicemeet_edge.cli import main
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.system import watchdog
from voicemeet_edge.system.life import Part

NOW = "/run/voicemeet-edge/hang"  # made by the test; hangs once

real_run = RealtimeSocket.run


async def run_until_told(self: RealtimeSocket) -> None:
    """Be the real thing until told, then stand still without an error, as a wait that never ends does."""
    running = asyncio.ensure_future(real_run(self))
    while not os.path.exists(NOW):  # noqa: ASYNC110, ASYNC240  # a file in memory, made by a shell
        await asyncio.sleep(0.2)
    os.unlink(NOW)
    running.cancel()
    await asyncio.Event().wait()


RealtimeSocket.run = run_until_told  # type: ignore[method-assign]
# A test need not wait a minute for what the product allows a slow connect.
watchdog.LIMITS_S[Part.SIGNALING] = 15.0  # type: ignore[index]
sys.exit(main())
