"""In a process of its own: freezing pytest's objects would hide them from its own collections."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.system


def run_alone(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr


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
    run_alone(code)


def test_what_was_freed_goes_back_to_the_system() -> None:
    code = (
        "from voicemeet_edge.system.memory import limit_heap\n"
        "def anonymous_mb():\n"
        "    fields = dict(line.split(':', 1) for line in open('/proc/self/smaps_rollup') if ':' in line)\n"
        "    return int(fields['Anonymous'].split()[0]) / 1024\n"
        "def read_a_file():\n"
        "    for _ in range(4):\n"
        "        large = bytes(6_000_000)\n"
        "        del large  # from now on the C library takes such from the heap\n"
        "    return [bytes(100_000) for _ in range(100)]\n"
        "before = anonymous_mb()\n"
        "small = read_a_file()\n"
        "del small\n"
        "limit_heap()\n"
        "assert anonymous_mb() < before + 2, (before, anonymous_mb())\n"
        "small = read_a_file()\n"
        "del small\n"
        "assert anonymous_mb() < before + 2, ('afterwards', before, anonymous_mb())\n"
    )
    run_alone(code)
