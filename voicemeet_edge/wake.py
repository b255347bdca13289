"""What a thread or loop that polls descriptors is woken by, from any thread.

One rule: a kernel without eventfd(2) (some containers and emulators) costs one descriptor more, never a call.
"""

from __future__ import annotations

import contextlib
import os
import sys

_ONE = (1).to_bytes(8, sys.byteorder)  # eventfd(2) takes and gives 8 bytes, as the processor has them
_AT_ONCE = 512  # bytes; of a pipe more than one wake may wait, and what is left wakes again


class Wake:
    """A descriptor that can be read from once `set` was called, and no more after `clear`."""

    def __init__(self) -> None:
        """Open it. Raises: OSError: there are too many open files."""
        try:
            self._reading = self._writing = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except (AttributeError, OSError):
            self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._reading

    def set(self) -> None:
        """Wake who polls; from any thread. Raises: OSError: it is closed."""
        with contextlib.suppress(BlockingIOError):  # full: a wake is waiting already
            os.write(self._writing, _ONE)

    def clear(self) -> None:
        """Take the wake away; call it before looking for what it was for, so that none is lost."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, _AT_ONCE)

    def close(self) -> None:
        """Close it, once; nobody may be using it."""
        os.close(self._reading)
        if self._writing != self._reading:
            os.close(self._writing)
