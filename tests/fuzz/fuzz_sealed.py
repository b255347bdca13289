"""Fuzz target of the sealed payloads.

Accept list: `SealError` from `open`. The input is tried as a JSON payload, and as the sealed text and
the key id of an otherwise good envelope; whatever it is, nobody sealed it, so nothing may open.
"""

from __future__ import annotations

import json

from voicemeet_edge.errors import SealError
from voicemeet_edge.signaling.sealed import NoSeal, Sealer

KEY = bytes(range(32))
GOOD = Sealer([KEY], "call", "a").seal("hello", {"v": 1, "slot": "a", "seq": 1})


def fuzz_one(data: bytes) -> None:
    """Open one input in three disguises, with a key and without."""
    try:
        payload: object = json.loads(data)
    except (ValueError, RecursionError):
        payload = None
    text = data.decode("latin-1")
    end = Sealer([KEY], "call", "b")
    for hostile in (payload, GOOD | {"sealed": text}, GOOD | {"k": text}, GOOD | {"f": text}):
        if hostile == GOOD:
            continue  # a corpus may hold the good one
        try:
            end.open("hello", hostile)
        except SealError:
            continue
        raise AssertionError("opened what nobody sealed")
    try:
        NoSeal().open("ring", payload)
    except SealError:
        pass
