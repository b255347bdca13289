"""One moment of the hub in numbers, for its operator; the one rule: nothing in it names anybody. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from voicemeet_edge.records import dataclass


@dataclass(frozen=True, slots=True)
class HubFigures:
    """What there is now, and what happened since the start."""

    up_s: float = 0.0
    """Seconds since the start."""
    is_alive: bool = True
    """The loop turned and the database answered lately."""
    connections: int = 0
    in_line: int = 0
    """Connections that wait for a place."""
    sockets: int = 0
    channels: int = 0
    parties_waiting: int = 0
    """Who looks for somebody now."""
    coturn_running: bool | None = None
    """None: this hub runs none."""
    coturn_restarts: int = 0
    answers: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """By verb ("other" for none of ours) and HTTP status."""
    connection_events: Mapping[str, int] = field(default_factory=dict)
    match_events: Mapping[str, int] = field(default_factory=dict)
    realtime_events: Mapping[str, int] = field(default_factory=dict)
