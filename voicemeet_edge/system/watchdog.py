"""The watchdog that means something: it is fed only while every part proves that it goes on.

One rule: a part that gave no proof of life within its limit ends the process, first in order (the other side
of a call is told), then whatever it takes; systemd starts it again. It runs in a thread of its own, so that a
loop that hangs is seen too; should this thread hang as well, systemd's own limit (WatchdogSec=) is left.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

from voicemeet_edge.system.life import Part, Proofs
from voicemeet_edge.system.notify import AliveSign
from voicemeet_edge.threads import named_thread

logger = logging.getLogger(__name__)

LOOK_S = 2.0  # s between two looks; systemd waits ten times that
ORDERLY_S = 3.0  # s for the goodbye of a process that one part of hangs
EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h

LIMITS_S: Mapping[Part, float] = {
    # How long each may be silent; a machine that stands still for some seconds is no fault of theirs.
    Part.LOOP: 6.0,
    Part.CAPTURE: 6.0,
    Part.PLAYBACK: 6.0,
    Part.PANEL: 7.0,
    Part.SIGNALING: 60.0,
}


def overdue(proofs: Proofs, now: float, limits_s: Mapping[Part, float] = LIMITS_S) -> Part | None:
    """Return the part whose last proof of life is too old, the most overdue first; None when all is well."""
    lateness = {
        part: now - at - limits_s[part] for part, at in proofs.items() if at is not None and part in limits_s
    }
    worst = max(lateness, key=lambda part: lateness[part], default=None)
    return worst if worst is not None and lateness[worst] > 0 else None


class Watchdog:
    """Look at the proofs of life for as long as the process runs.

    Args:
        sign: what is fed.
        proofs: asked in this thread; reads attributes and nothing else.
        end: called in this thread when a part hangs: end the process in order; False when it cannot.
        kill: ends the process when it is still there after `ORDERLY_S`.
        look_s: seconds between two looks.
    """

    def __init__(
        self,
        sign: AliveSign,
        proofs: Callable[[], Proofs],
        end: Callable[[Part], bool],
        *,
        kill: Callable[[], None] | None = None,
        look_s: float = LOOK_S,
        limits_s: Mapping[Part, float] = LIMITS_S,
    ) -> None:
        self._sign = sign
        self._proofs = proofs
        self._end = end
        self._kill = kill or _kill
        self._look_s = look_s
        self._limits_s = limits_s
        self._stopping = threading.Event()
        self._thread = named_thread("watchdog", self._run)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; idempotent. From here on the process ends by itself."""
        self._stopping.set()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stopping.wait(self._look_s):
            now = time.monotonic()
            # A machine that was suspended, or starved this thread too, proves nothing against the others.
            stood_still = now - before > 2.0 * self._look_s + 1.0
            before = now
            hung = None if stood_still else overdue(self._proofs(), now, self._limits_s)
            if hung is not None:
                self._end_process(hung)
                return
            self._sign.alive()

    def _end_process(self, hung: Part) -> None:
        logger.error("%s gives no sign of life: the device starts again", hung.value)
        if logger.isEnabledFor(logging.INFO):
            faulthandler.dump_traceback(file=sys.stderr)  # where each thread stands: code, no data
        goes_in_order = False
        try:
            goes_in_order = self._end(hung)
        except Exception:  # the loop may be closed, or worse; the end comes all the same
            logger.exception("the device could not be shut down in order")
        if goes_in_order:
            time.sleep(ORDERLY_S)
        self._kill()


def _kill() -> None:
    os._exit(EXIT_STATUS)
