"""The hub's figures as Prometheus metrics; the one rule: labels come from our own short lists of words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from voicemeet_edge.hub.figures import HubFigures

PREFIX = "voicemeet_hub_"
ASK_LIMIT_S = 5.0  # s a scrape waits for the loop; Prometheus itself gives up after ten


def on_loop(take: Callable[[], HubFigures], loop: asyncio.AbstractEventLoop) -> Callable[[], HubFigures]:
    """Return `take` for other threads: scrapes come in one of their own, and the books are the loop's.

    What is returned raises TimeoutError when the loop does not answer, and RuntimeError when it is closed.
    """

    async def ask() -> HubFigures:
        return take()

    def from_thread() -> HubFigures:
        asking = ask()
        try:
            future = asyncio.run_coroutine_threadsafe(asking, loop)
        except RuntimeError:
            asking.close()
            raise
        return future.result(ASK_LIMIT_S)

    return from_thread


class HubCollector(Collector):
    """Ask for the figures at each scrape; nothing is counted twice."""

    def __init__(self, take: Callable[[], HubFigures]) -> None:
        self._take = take

    @override
    def collect(self) -> Iterable[Metric]:
        """Return the metrics of now."""
        now = self._take()
        yield _gauge("up_seconds", "Time since the hub started", now.up_s)
        yield _gauge("alive", "1 while loop and database answer", now.is_alive)
        yield _gauge("connections", "Connections open", now.connections)
        yield _gauge("connections_in_line", "Connections that wait for a place", now.in_line)
        yield _gauge("sockets", "WebSockets open", now.sockets)
        yield _gauge("channels", "Channels joined", now.channels)
        yield _gauge("parties_waiting", "Parties that look for somebody", now.parties_waiting)
        if now.coturn_running is not None:
            yield _gauge("coturn_running", "1 while the TURN server runs", now.coturn_running)
            restarts = CounterMetricFamily(
                PREFIX + "coturn_restarts", "Times the TURN server ended by itself"
            )
            restarts.add_metric([], now.coturn_restarts)
            yield restarts
        answers = CounterMetricFamily(
            PREFIX + "answers", "Requests answered, by verb and HTTP status", labels=["verb", "status"]
        )
        for (verb, status), count in sorted(now.answers.items()):
            answers.add_metric([verb, str(status)], count)
        yield answers
        yield _events("connection_events", "What became of connections", now.connection_events)
        yield _events("match_events", "What became of searches", now.match_events)
        yield _events("realtime_events", "What the signaling carried and refused", now.realtime_events)

    def describe(self) -> Iterable[Metric]:
        """Register without asking: the hub may not be up yet."""
        return []


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, help_text, value=float(value))


def _events(name: str, help_text: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(PREFIX + name, help_text, labels=["event"])
    for event, count in counts.items():
        family.add_metric([event], count)
    return family
