"""Threads under their own names: `top -H`, `ps -T` and a stack trace then say which part is at work.

One rule: every thread of ours is made here. Python gives its names to the kernel itself from 3.14 on.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

PR_SET_NAME = 15  # linux/prctl.h; the kernel keeps 15 bytes


def named_thread(name: str, work: Callable[[], None]) -> threading.Thread:
    """Make a thread, not started, that does not keep the process from ending."""

    def run() -> None:
        _tell_kernel(name)
        work()

    # A daemon: a driver that never returns must not keep the process from ending.
    return threading.Thread(target=run, name=name, daemon=True)


def _tell_kernel(name: str) -> None:
    try:
        ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)
    except (OSError, AttributeError):  # not Linux
        logger.debug("threads have no names here")
