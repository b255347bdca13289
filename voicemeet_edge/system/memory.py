"""How this process keeps its memory small and its pauses short.

One rule: called by an entry point, when everything is imported and built, and again when more was; libraries
and tests never do.
"""

from __future__ import annotations

import ctypes
import gc
import logging

logger = logging.getLogger(__name__)

# malloc.h of glibc
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
ARENAS = 1  # the GIL lets one thread at a time allocate; each further arena keeps a few hundred kB for itself
# Bytes. Left alone, the C library takes the largest block that was ever freed for the size of many to come,
# up to 32 MB, and keeps twice as much for them: a file of sound read at the start costs its length for good.
GIVEN_BACK = 128 * 1024  # a block from here on goes back to the system when it is freed
KEPT = 256 * 1024  # free at the end of the heap; a call's frames come and go in less


def start_unsettled() -> None:
    """Collect no garbage until `settle_memory`: there is next to none in what is imported."""
    gc.disable()


def settle_memory() -> None:
    """Let no later garbage collection look again at what lives as long as the process.

    A whole collection holds the interpreter for 37 ms on x86, four times that on a Raspberry Pi: longer than
    the loudspeaker's buffer lasts. Nearly all of it goes into modules and classes that never die.
    """
    limit_heap()
    gc.freeze()  # without a collection before: importing leaves next to no garbage, and looking takes as long
    gc.enable()
    logger.debug("%d objects are left out of collections", gc.get_freeze_count())


def limit_heap() -> None:
    """Let what was freed go back to the system, from now on, and what lies free already."""
    library = ctypes.CDLL(None)
    try:
        library.mallopt(M_ARENA_MAX, ARENAS)
        library.mallopt(M_MMAP_THRESHOLD, GIVEN_BACK)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
        library.malloc_trim(0)
    except AttributeError:  # musl has none of them
        logger.debug("the C library keeps what it likes")
