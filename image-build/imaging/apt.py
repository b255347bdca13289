"""Debian packages fetched for any architecture, without installing them, and the lock of their versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from imaging.steps import BuildError
from imaging.toolroot import ToolRoot, sources


class Apt:
    """An apt of its own for one architecture and release: it knows nothing installed and installs nothing."""

    def __init__(self, tools: ToolRoot, base: Path, *, arch: str, mirror: str, suite: str) -> None:
        self._tools = tools
        self._base = base
        self.archives = base / "archives"
        for part in ("lists/partial", "archives/partial", "etc"):
            (base / part).mkdir(parents=True, exist_ok=True)
        (base / "status").touch()
        (base / "sources.list").write_text(sources(mirror, suite))
        self._config = base / "apt.conf"
        self._config.write_text(
            f'APT::Architecture "{arch}"; APT::Architectures {{ "{arch}"; }};\n'
            f'APT::Sandbox::User "root"; APT::Install-Recommends "false"; Acquire::Languages "none";\n'
            f'Dir::State "{base}"; Dir::State::Lists "{base}/lists"; Dir::State::status "{base}/status";\n'
            f'Dir::Cache "{base}"; Dir::Cache::Archives "{base}/archives";\n'
            f'Dir::Etc "{base}/etc"; Dir::Etc::Parts "/nonexistent";\n'
            f'Dir::Etc::SourceList "{base}/sources.list";\n'
        )
        self._updated = False

    def _run(self, command: Sequence[str], cwd: Path | None = None) -> str:
        return self._tools.run(command, env={"APT_CONFIG": str(self._config)}, cwd=cwd)

    def download(self, names: Sequence[str]) -> list[Path]:
        """Fetch exactly these packages (`name`, `name=version` or `name/suite`), not what they depend on."""
        if not self._updated:
            self._run(["apt-get", "update", "-qq"])
            self._updated = True
        found = []
        for uri in self._run(["apt-get", "download", "--print-uris", *names]).splitlines():
            fields = uri.split()
            if len(fields) != 4:
                continue
            # apt prints the name as it will be on disk, and its hash: the same file is not fetched twice.
            path, expected = self.archives / fields[1], fields[3].removeprefix("SHA256:")
            if not path.exists() or sha256(path) != expected:
                url = fields[0].strip("'")
                part = path.with_name(path.name + ".part")
                self._run(["/usr/lib/apt/apt-helper", "download-file", url, str(part), f"SHA256:{expected}"])
                part.rename(path)
            found.append(path)
        if len(found) != len(names):
            raise BuildError(f"not all of these packages are to be had: {', '.join(names)}")
        return found

    def unpack(self, debs: Iterable[Path], target: Path) -> None:
        """Unpack packages into a folder; no script of theirs is run."""
        target.mkdir(parents=True, exist_ok=True)
        for deb in debs:
            self._tools.run(["dpkg-deb", "-x", deb, target])


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def compare_lock(lock: Path, present: dict[str, tuple[str, str]]) -> list[str]:
    """Say what differs between the lock file and what was installed: {name: (version, SHA-256)}."""
    if not lock.exists():
        return [f"there is no {lock.name} yet"]
    wanted = {}
    for line in lock.read_text().splitlines():
        if line and not line.startswith("#"):
            name, version, digest = line.split()
            wanted[name] = (version, digest)
    lines = [f"{name}: locked, not installed" for name in wanted.keys() - present.keys()]
    lines += [f"{name} {present[name][0]}: installed, not locked" for name in present.keys() - wanted.keys()]
    for name in wanted.keys() & present.keys():
        if wanted[name] != present[name]:
            lines.append(f"{name}: locked {wanted[name][0]}, installed {present[name][0]}")
    return sorted(lines)


def write_lock(lock: Path, present: dict[str, tuple[str, str]]) -> None:
    lock.parent.mkdir(parents=True, exist_ok=True)
    head = "# Debian packages of this image: name, version, SHA-256 of the .deb. Made by image-build/lock.\n"
    lock.write_text(head + "".join(f"{name} {v} {h}\n" for name, (v, h) in sorted(present.items())))
