"""Fuzz target of what an operator's machine reads of devices: a hub's answer, and what a seal held.

Accept list: EnvironmentFault for an answer that is none. A row never fails: its state says what is wrong,
and all that is shown of it can be printed.
"""

from __future__ import annotations

import json

from voicemeet_edge.cli_fleet import rows_of, unsealed
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.fleet_seal import make_key, seal

_PRIVATE, _PUBLIC = make_key()
_BOX = "0123456789abcdef"
_TOLD = {"name": "Gate 3", "faults": ["microphone"], "self_test": "passed", "at": 900, "up_s": 5.0}
_SEALED = {"device": _BOX, "sealed": seal(_PUBLIC, _BOX, _TOLD), "seen_s": 4.0}
_ANSWERS: tuple[object, ...] = ([_TOLD | {"seen_s": 1}], [_SEALED], [{}], 5)
SEEDS = tuple(json.dumps({"devices": one}).encode() for one in _ANSWERS)
TOKENS = (b'"seen_s":', b'"sealed":', b'"faults":[', b"1e999", b"\\u001b[2J", b"null")


def fuzz_one(data: bytes) -> None:
    """Read any bytes as a hub's answer, and as what a device sealed."""
    try:
        rows = rows_of(data)
    except EnvironmentFault:
        rows = []
    for told in tuple(rows):  # what a hub may say, a device may have sealed
        try:
            rows.append({"device": _BOX, "sealed": seal(_PUBLIC, _BOX, told), "seen_s": 1.0})
        except ValueError:  # too long, or no text at all
            continue
    for row in rows:
        for key in (None, _PRIVATE):
            shown = unsealed(row, key, 1_000.0)
            if not str(shown.get("name", "")).isprintable() or not shown["state"].isprintable():
                raise AssertionError("what is shown cannot be printed")
