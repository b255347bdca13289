"""Is the desk page the one that was built? The one rule: what is not in the record is served to nobody.

A wheel carries the SHA-256 of each of its files (`RECORD`, the packaging specification "recording installed
projects"), written when it was built. A checkout has none, and is taken as it is. Whoever can write to the
installation can rewrite the record too: this finds half an update, a bad disk and a file put beside others.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

NAME = "voicemeet-edge"
ALGORITHM = "sha256"


def installed(directory: Path) -> Distribution | None:
    """Return the installed package this directory belongs to; None in a checkout."""
    try:
        found = distribution(NAME)
    except PackageNotFoundError:
        return None
    for file in found.files or ():
        if Path(str(found.locate_file(file))).parent.resolve() == directory.resolve():
            return found
    return None


def altered(directory: Path, files: Mapping[str, bytes], package: Distribution | None) -> list[str]:
    """Return the names of files that are not as they were built; `files` as `read_desk` gives them."""
    if package is None:
        return []
    built: dict[str, str] = {}
    for file in package.files or ():
        place = Path(str(package.locate_file(file)))
        if place.parent.resolve() == directory.resolve() and file.hash and file.hash.mode == ALGORITHM:
            built[place.name] = file.hash.value
    return sorted(name for name, content in files.items() if built.get(name) != _digest(content))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
