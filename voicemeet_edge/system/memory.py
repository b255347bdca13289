"""How this process keeps its memory small and its pauses short.

One rule: called by an entry point, when everything is imported and built, and again when more was; libraries
and tests never do.
"""

from __future__ import annotations

import ctypes
import gc
import logging

logger = logging.getLogger(__name__)

M_ARENA_MAX = -8  # malloc.h of glibc
ARENAS = 1  # the GIL lets one thread at a time allocate; each further arena keeps a few hundred kB for itself


def start_unsettled() -> None:
    """Collect no garbage until `settle_memory`: there is next to none in what is imported."""
    gc.disable()


def settle_memory() -> None:
    """Let no later garbage collection look again at what lives as long as the process.

    A whole collection holds the interpreter for 37 ms on x86, four times that on a Raspberry Pi: longer than
    the loudspeaker's buffer lasts. Nearly all of it goes into modules and classes that never die.
    """
    _limit_arenas()
    gc.freeze()  # without a collection before: importing leaves next to no garbage, and looking takes as long
    gc.enable()
    logger.debug("%d objects are left out of collections", gc.get_freeze_count())


def _limit_arenas() -> None:
    try:
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)
    except (OSError, AttributeError):  # musl has no arenas
        logger.debug("the C library has no mallopt")
