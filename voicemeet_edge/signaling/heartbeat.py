"""Is the other end of the socket still there? Phoenix heartbeats with their replies checked.

Rule: an unanswered heartbeat means a dead connection, whatever TCP or a proxy in between says.
"""

from __future__ import annotations

from voicemeet_edge.signaling.channel import Refs
from voicemeet_edge.signaling.frames import Frame

INTERVAL_S = 25.0  # seconds; the server hangs up after 60 s without one, even when data flows
TOPIC = "phoenix"


class Heartbeat:
    """Send one each interval; the reply must come before the next is due."""

    def __init__(self, refs: Refs, interval_s: float, now: float) -> None:
        self._refs = refs
        self._interval_s = interval_s
        self._unanswered: str | None = None
        self._asked_at = now
        self.deadline = now + interval_s
        self.is_dead = False

    def tick(self, now: float) -> Frame | None:
        """Return the heartbeat that is due; sets `is_dead` instead when the last got no reply."""
        if now < self.deadline:
            return None
        if self._unanswered is not None:
            self.is_dead = True
            return None
        self._unanswered = self._refs.next()
        self._asked_at = now
        self.deadline = now + self._interval_s
        return Frame(None, self._unanswered, TOPIC, "heartbeat", {})

    def hurry(self, now: float, within_s: float) -> Frame | None:
        """Ask at once and want the answer soon: something says that the network is gone.

        Returns the heartbeat to send; None when one is already on its way, which then has less time.
        """
        self.deadline = min(self.deadline, now + within_s)
        if self._unanswered is not None:
            return None
        self.deadline = now
        beat = self.tick(now)
        self.deadline = now + within_s
        return beat

    def receive(self, frame: Frame) -> None:
        """Note a frame of the topic `phoenix`."""
        if frame.event == "phx_reply" and frame.ref == self._unanswered:
            self._unanswered = None
            self.deadline = self._asked_at + self._interval_s  # also after a hurried one
