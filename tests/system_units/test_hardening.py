"""A hardened process: no core dump, no attaching."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.system

CHECK = """
import ctypes, resource
from voicemeet_edge.system.hardening import harden_process
harden_process()
harden_process()
PR_GET_DUMPABLE = 3
print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_a_process_becomes_undumpable() -> None:
    result = subprocess.run(
        [sys.executable, "-c", CHECK], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout == "0 (0, 0)\n"
