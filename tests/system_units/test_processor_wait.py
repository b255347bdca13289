"""How long threads waited for a processor, as the kernel of this machine counts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from voicemeet_edge.system.processor_wait import ProcessorWait

# Two that want all of one processor, until the one that looks has waited.
STARVED = """
import os, time
from voicemeet_edge.system.processor_wait import ProcessorWait
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent:
        pass
    os._exit(0)
wait, waited = ProcessorWait(), 0.0
assert wait.since_last() == 0.0
end = time.monotonic() + 40
while waited < 0.05 and time.monotonic() < end:
    waited += wait.since_last()
print(waited >= 0.05)
"""


def test_a_thread_that_shares_its_processor_has_waited() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this kernel does not count it")
    done = subprocess.run(
        [sys.executable, "-c", STARVED], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "True\n", done.stderr


def tasks(folder: Path, **waits: int) -> Path:
    """Threads that have waited for so many nanoseconds."""
    for name, wait in waits.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "schedstat").write_text(f"1000 {wait} 3\n")
    return folder


def test_the_worst_thread_counts_and_only_from_look_to_look(tmp_path: Path) -> None:
    wait = ProcessorWait(tasks(tmp_path, t1=10**9, t2=5 * 10**9))
    assert wait.since_last() == 0.0
    tasks(tmp_path, t1=3 * 10**9, t2=6 * 10**9, t3=9 * 10**9)
    assert wait.since_last() == 2.0
    assert wait.since_last() == 0.0
    tasks(tmp_path, t1=7 * 10**9)
    assert wait.forget() == 0.0
    assert wait.since_last() == 0.0


@pytest.mark.parametrize("text", ["", "0", "words and words"])
def test_a_kernel_that_does_not_count_it_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "t1").mkdir()
    (tmp_path / "t1/schedstat").write_text(text)
    (tmp_path / "gone").mkdir()
    wait = ProcessorWait(tmp_path)
    wait.since_last()
    assert wait.since_last() == 0.0
