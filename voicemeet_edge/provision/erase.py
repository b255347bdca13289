"""Take the secrets out of a box that was opened: out of its settings, and its credentials.

One rule: what is written over may still lie in the cells of a flash card. So this hides a key from whoever
looks next, and does not bring back what somebody has read: the key has to be changed at the other ends too.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

from voicemeet_edge.provision.plan import secret_keys
from voicemeet_edge.provision.toml_text import dump

MAX_FILE_BYTES = 65_536
SPARED = ("backend", "apikey")  # not a secret of this box, and the operator's tools name the hub by it


def erase(settings: Path, credentials: Sequence[Path]) -> list[str]:
    """Empty every secret of the settings and remove the credential files; returns what was erased.

    Raises:
        OSError: a file cannot be written; those before it are done.
    """
    erased = []
    for path in credentials:
        if path.is_file():
            _overwrite(path)
            path.unlink()
            erased.append(path.name)
    if settings.is_file():
        _overwrite(settings, _without(settings.read_bytes()))
        erased.append(settings.name)
    return erased


def _without(text: bytes) -> bytes:
    """Return settings with every secret empty; nothing at all of a file that is no TOML."""
    try:
        table = tomllib.loads(text[:MAX_FILE_BYTES].decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return b""
    for section, key in secret_keys():
        values = table.get(section)
        if isinstance(values, dict) and key in values and (section, key) != SPARED:
            values[key] = [] if isinstance(values[key], list) else ""
    return dump(table).encode()


def _overwrite(path: Path, content: bytes = b"") -> None:
    """Write zeros over a file in its place, then the new content."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        file.write(bytes(size))
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        file.write(content)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
