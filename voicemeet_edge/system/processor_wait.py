"""How long threads of this process were ready to run and had no processor.

One rule: a kernel that does not count it (no CONFIG_SCHED_INFO) says 0, and nobody fails for that.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

TASKS = Path("/proc/self/task")


class ProcessorWait:
    """Looks at all threads of this process, each look compared with the one before."""

    def __init__(self, tasks: Path = TASKS) -> None:
        self._tasks = tasks
        self._before: dict[str, int] = {}

    def since_last(self) -> float:
        """Return the seconds that the worst of the threads waited since the last look; 0 at the first."""
        before, self._before = self._before, self._read()
        return (
            max((now - before[name] for name, now in self._before.items() if name in before), default=0) / 1e9
        )

    def forget(self) -> float:
        """Look no more for now: the next look is the first."""
        self._before = {}
        return 0.0

    def _read(self) -> dict[str, int]:
        """Nanoseconds by thread, as proc(5) has them: time spent waiting on a run queue."""
        waits = {}
        for path in self._tasks.iterdir():
            with contextlib.suppress(OSError, ValueError, IndexError):  # it ended meanwhile
                waits[path.name] = int((path / "schedstat").read_text().split()[1])
        return waits
