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
from voicemeet_edge.system.processor_wait import ProcessorWait
from voicemeet_edge.threads import named_thread

logger = logging.getLogger(__name__)

LOOK_S = 2.0  # s between two looks; systemd waits ten times that
LATE_S = 0.5  # s by which a look is late on a machine that has time
ORDERLY_S = 3.0  # s for the goodbye of a process that one part of hangs
EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h

LIMITS_S: Mapping[Part, float] = {
    # How long each may be silent, in time that the process had.
    Part.LOOP: 6.0,
    Part.CAPTURE: 6.0,
    Part.PLAYBACK: 6.0,
    Part.PANEL: 7.0,
    Part.SIGNALING: 60.0,
}


class Silence:
    """How long each part has been silent, counted in time in which this process could have spoken. Pure.

    A machine that stood still, or gave its processors to others, proves nothing against a part: afterwards
    each has as much time left as it had before.

    Args:
        look_s: seconds between two looks, when the machine has time.
        limits_s: how long each part may be silent.
    """

    def __init__(self, look_s: float = LOOK_S, limits_s: Mapping[Part, float] = LIMITS_S) -> None:
        self._longest_s = look_s + LATE_S
        self._limits_s = limits_s
        self._before: float | None = None
        self._proofs: Proofs = {}
        self._silent_s: dict[Part, float] = {}

    @property
    def is_suspicious(self) -> bool:
        """A part has used up a third of its time: now it matters what the process had."""
        return any(silent > self._limits_s[part] / 3.0 for part, silent in self._silent_s.items())

    def overdue(self, proofs: Proofs, now: float, waited_s: float = 0.0) -> Part | None:
        """Return the part that is silent for too long, the most overdue first; None when all is well.

        Args:
            proofs: of all parts.
            now: seconds, monotonic.
            waited_s: for how much of it since the last look a thread was ready to run and had no processor.
        """
        passed = now - self._before if self._before is not None else 0.0
        had = max(0.0, min(passed, self._longest_s) - waited_s)
        for part in self._limits_s:
            at = proofs.get(part)
            if at is None:
                self._silent_s.pop(part, None)
            elif at == self._proofs.get(part):
                self._silent_s[part] = self._silent_s.get(part, 0.0) + had
            elif self._before is None:  # from before the first look
                self._silent_s[part] = now - at
            else:
                self._silent_s[part] = min(now - at, had)
        self._before, self._proofs = now, dict(proofs)
        worst = max(self._silent_s, key=self._lateness, default=None)
        return worst if worst is not None and self._lateness(worst) > 0 else None

    def _lateness(self, part: Part) -> float:
        return self._silent_s[part] - self._limits_s[part]


class Watchdog:
    """Look at the proofs of life for as long as the process runs.

    Args:
        sign: what is fed.
        proofs: asked in this thread; reads attributes and nothing else.
        end: called in this thread when a part hangs: end the process in order; False when it cannot.
        kill: ends the process when it is still there after `ORDERLY_S`.
        look_s: seconds between two looks.
        limits_s: how long each part may be silent.
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
        self._silence = Silence(look_s, limits_s)
        self._stopping = threading.Event()
        self._thread = named_thread("watchdog", self._run)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; idempotent. From here on the process ends by itself."""
        self._stopping.set()

    def _run(self) -> None:
        wait = ProcessorWait()
        while not self._stopping.wait(self._look_s):
            waited_s = wait.since_last() if self._silence.is_suspicious else wait.forget()
            hung = self._silence.overdue(self._proofs(), time.monotonic(), waited_s)
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
