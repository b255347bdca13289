"""In a process of its own: freezing pytest's objects would hide them from its own collections."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.system


def test_a_full_collection_finds_next_to_nothing_to_look_at() -> None:
    code = (
        "import gc, voicemeet_edge.app\n"
        "from voicemeet_edge.system.memory import settle_memory\n"
        "before = len(gc.get_objects())\n"
        "settle_memory()\n"
        "assert gc.get_freeze_count() > 10_000, gc.get_freeze_count()\n"
        "assert len(gc.get_objects()) < before / 20, (before, len(gc.get_objects()))\n"
        "class Loop: pass\n"
        "import weakref\n"
        "one = Loop(); one.self = one; seen = weakref.ref(one); del one\n"
        "gc.collect()\n"
        "assert seen() is None, 'what comes later is collected as ever'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
