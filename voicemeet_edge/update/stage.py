"""Which devices of a hundred take a version first: chance, but the same for a device each time; pure.

One rule: nobody is told who is chosen. The device rolls its own dice from an id that never leaves it.
"""

from __future__ import annotations

import hashlib

from voicemeet_edge.update.version import SystemVersion

_STEPS = 10_000  # of a hundred per cent


def place(device_id: str, version: SystemVersion) -> float:
    """Return this device's place in the line for a version, in per cent, from 0 to below 100.

    Another version draws another line: no device is always the first to try.
    """
    digest = hashlib.sha256(f"{device_id} {version}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") % _STEPS) * 100.0 / _STEPS


def is_chosen(device_id: str, version: SystemVersion, percent: int) -> bool:
    """Say whether a device is among the first `percent` of a hundred; who once is stays so as it grows."""
    return place(device_id, version) < percent
