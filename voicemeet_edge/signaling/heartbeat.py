"""Is the other end of the socket still there? Phoenix heartbeats with their replies checked.

Rule: an unanswered heartbeat means a dead connection, whatever TCP or a proxy in between says. One that takes
much longer than usual means doubt: whoever has a second way open may take it.
"""

from __future__ import annotations

from collections.abc import Callable

from voicemeet_edge.signaling.channel import Refs
from voicemeet_edge.signaling.frames import PhoenixFrame

INTERVAL_S = 25.0  # s; the server hangs up after 60 s without one, even when data flows
REPLY_S = 10.0  # s a reply may take; docs/contract.md
DOUBT_S = 0.5  # s; a reply takes a round trip, and a person at the button notices one second
DOUBT_ROUND_TRIPS = 3.0  # on a slow line a reply is late only when this much later than the last
DOUBT_CAP_S = 2.0  # s; later than this is late on every line
TOPIC = "phoenix"


class Heartbeat:
    """Send one each interval; the reply must come soon after."""

    def __init__(
        self,
        refs: Refs,
        interval_s: float,
        now: float,
        payload: Callable[[], dict[str, object]] = dict,
    ) -> None:
        """`payload` is asked at each one what it says; most servers only count them."""
        self._refs = refs
        self._payload = payload
        self._interval_s = interval_s
        self._unanswered: str | None = None
        self._asked_at = now
        self._round_trip_s = 0.0
        self.deadline = now + interval_s
        """When to `tick` next."""
        self.is_dead = False

    def tick(self, now: float) -> PhoenixFrame | None:
        """Return the heartbeat that is due; sets `is_dead` instead when the last got no reply."""
        if now < self.deadline:
            return None
        if self._unanswered is not None:
            self.is_dead = True
            return None
        self._unanswered = self._refs.next()
        self._asked_at = now
        self.deadline = now + min(REPLY_S, self._interval_s)
        return PhoenixFrame(None, self._unanswered, TOPIC, "heartbeat", self._payload())

    def hurry(self, now: float, within_s: float) -> PhoenixFrame | None:
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

    @property
    def doubted_at(self) -> float | None:
        """When the heartbeat on its way is late enough to look for another way; None without one."""
        if self._unanswered is None:
            return None
        return self._asked_at + min(DOUBT_CAP_S, max(DOUBT_S, DOUBT_ROUND_TRIPS * self._round_trip_s))

    def receive(self, frame: PhoenixFrame, now: float) -> None:
        """Note a frame of the topic `phoenix`."""
        if frame.event == "phx_reply" and frame.ref == self._unanswered:
            self._unanswered = None
            self._round_trip_s = now - self._asked_at
            self.deadline = self._asked_at + self._interval_s  # also after a hurried one
