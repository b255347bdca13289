"""Fuzz target of the signaling messages.

Accept list: `MessageError` from `parse`. The input is JSON `[event, payload]`; what is no JSON is
tried as the text of every field instead.
"""

from __future__ import annotations

import json

from voicemeet_edge.errors import MessageError
from voicemeet_edge.signaling.messages import parse, serialize

EVENTS = ("hello", "reveal", "offer", "answer", "candidate", "restart", "ring", "accept", "bye")


def fuzz_one(data: bytes) -> None:
    """Parse one input under every event name, and serialize what was read."""
    text = data.decode(errors="surrogateescape")
    try:
        payload: object = json.loads(data)
    except (ValueError, RecursionError):
        fields = ("sdp", "candidate", "mid", "reason", "nonce", "commitment")
        payload = {"v": 1, "slot": "a", "seq": 1, **dict.fromkeys(fields, text)}
    for event in [*EVENTS, text]:
        try:
            message = parse(event, payload)
        except MessageError:
            continue
        assert parse(*serialize(message)) == message
