"""Steps of a build: said with their times, their results kept until what they were made from changes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


class BuildError(Exception):
    """The build cannot go on; the text says why and what can be done."""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    stdin: bytes | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a command and return its output; BuildError with the end of what it said when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=stdin, capture_output=True, env=env, cwd=cwd, check=False)
    if log is not None:
        with log.open("ab") as file:
            file.write(f"$ {' '.join(words)}\n".encode() + done.stdout + done.stderr)
    if done.returncode:
        tail = "\n  ".join((done.stdout + done.stderr).decode(errors="replace").splitlines()[-25:])
        raise BuildError(f"{' '.join(words[:6])} … ended with {done.returncode}:\n  {tail}")
    return done.stdout.decode(errors="replace")


class Steps:
    """Say what is done and how long it took; keep results in `cache` under the hash of their ingredients."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.times: list[tuple[str, float]] = []
        self._began = time.monotonic()
        cache.mkdir(parents=True, exist_ok=True)

    def do(self, title: str, work: Callable[[], None]) -> None:
        """Do something that is never kept."""
        self._timed(title, work)

    def keep(
        self, title: str, name: str, ingredients: Iterable[object], make: Callable[[Path], None]
    ) -> Path:
        """Return `cache/name-<hash>`, made by `make` (a file or a folder) unless it is there already."""
        path = self.cache / f"{name}-{fingerprint(ingredients)}"
        if path.exists():
            self._used(path)
            say(f"  {title}: kept")
            self.times.append((title, 0.0))
            return path
        part = path.with_name(path.name + ".part")
        remove(part)
        self._timed(title, lambda: make(part))
        part.rename(path)
        self._used(path)
        self._forget_older(name, path)
        return path

    def _timed(self, title: str, work: Callable[[], None]) -> None:
        say(f"  {title} …")
        start = time.monotonic()
        work()
        took = time.monotonic() - start
        self.times.append((title, took))
        say(f"  {title}: {took:.1f} s")

    def _forget_older(self, name: str, path: Path) -> None:
        """Keep the two newest results of a step: a working cache must not fill the disk."""
        length = len(path.name)
        same = [p for p in self.cache.glob(f"{name}-*") if len(p.name) == length]
        for old in sorted(same, key=self._last_use)[:-2]:
            remove(old)
            self._mark(old).unlink(missing_ok=True)

    def _mark(self, path: Path) -> Path:
        return self.cache / "used" / path.name

    def _used(self, path: Path) -> None:
        """Note when a result was last taken; beside it, for a folder's own date goes into its image."""
        mark = self._mark(path)
        mark.parent.mkdir(exist_ok=True)
        mark.touch()

    def _last_use(self, path: Path) -> float:
        mark = self._mark(path)
        return (mark if mark.exists() else path).stat().st_mtime

    def summary(self) -> str:
        total = time.monotonic() - self._began  # some steps run beside others
        lines = [f"{seconds:8.1f} s  {title}" for title, seconds in self.times if seconds >= 0.05]
        return "\n".join([*lines, f"{total:8.1f} s  together"])


def fingerprint(ingredients: Iterable[object]) -> str:
    """Hash what a result is made from: paths by their content, everything else by how it prints."""
    digest = hashlib.sha256()
    for thing in ingredients:
        if isinstance(thing, Path):
            for path in sorted(thing.rglob("*")) if thing.is_dir() else [thing]:
                if path.is_file() and "__pycache__" not in path.parts:
                    digest.update(
                        f"{path.relative_to(thing.parent)}\0{path.stat().st_mode & 0o111}\0".encode()
                    )
                    digest.update(path.read_bytes())
        else:
            digest.update(repr(thing).encode())
        digest.update(b"\1")
    return digest.hexdigest()[:12]


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
