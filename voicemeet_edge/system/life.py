"""The parts of a device that must go on, each of which can be asked when it last proved that it does.

One rule: a proof of life is made by the work itself (a period of sound served, a frame of the server
handled), never by a timer that runs beside it; and a part that has nothing to do owes none.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Part(Enum):
    """What a device is made of, as far as it can hang; the value is the word for logs and status."""

    LOOP = "event loop"
    CAPTURE = "capture"
    PLAYBACK = "playback"
    PANEL = "panel"
    SIGNALING = "signaling"


Proofs = Mapping[Part, float | None]
"""The time (seconds, monotonic) of each part's last proof of life; None: it has nothing to prove just now."""
