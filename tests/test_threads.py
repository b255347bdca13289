"""Threads that the kernel knows by name."""

from __future__ import annotations

import threading
from pathlib import Path

from voicemeet_edge.threads import named_thread


def test_the_kernel_knows_it_by_name() -> None:
    names: list[str] = []

    def work() -> None:
        names.append(Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text())

    thread = named_thread("sound-of-a-long-name", work)
    assert thread.daemon
    thread.start()
    thread.join(20)
    assert names == ["sound-of-a-long\n"]
