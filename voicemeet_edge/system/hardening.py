"""Keep what is in memory out of files: no core dumps, no reading by other processes of our user.

One rule: called before any secret is read.
"""

from __future__ import annotations

import ctypes
import os
import resource

PR_SET_DUMPABLE = 4  # linux/prctl.h


def harden_process() -> None:
    """Forbid core dumps and attaching to this process.

    RLIMIT_CORE alone does not stop a core handler that is a pipe (systemd-coredump): the kernel
    asks it whatever the limit is, unless the process is not dumpable at all.

    Raises:
        OSError: the kernel refused.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
