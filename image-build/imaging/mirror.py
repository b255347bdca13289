"""The Debian mirror that a build takes its packages from when none is named: the one this machine uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

APT = Path("/etc/apt")


def own_mirror(apt: Path = APT) -> str | None:
    """The first mirror of Debian's main archive in apt's sources; None where there is none.

    Reads both of apt's forms (sources.list(5)): deb822 (`URIs:`) and one-line (`deb [options] URI suite …`).
    """
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix in (".list", ".sources") and path.is_file():
            for uri in _uris(path.read_text(errors="replace")):
                if re.fullmatch(r"https?://\S+/debian/?", uri):
                    return uri.rstrip("/")
    return None


def _uris(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if line.startswith("URIs:"):
            yield from line.removeprefix("URIs:").split()
        elif found := re.match(r"deb\s+(?:\[[^\]]*\]\s+)?(\S+)", line):
            yield found.group(1)
