"""A snapshot as Prometheus metrics, and where they are read.

One rule: only loopback and the status socket; who wants them from afar brings a collector of their own. No
label names a person, an address or a call.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from voicemeet_edge.system.snapshot import Snapshot
from voicemeet_edge.voice.format import SAMPLE_RATE

logger = logging.getLogger(__name__)

PREFIX = "voicemeet_"
# Metric, kind, key of the snapshot's part, help.
_SOUND = (
    ("capture_xruns", "Periods of the microphone that were lost"),
    ("playback_xruns", "Periods the loudspeaker waited for in vain"),
    ("sound_losses", "Times a sound card vanished or could not be opened"),
    ("frames_sent", "Frames of voice sent"),
    ("frames_dropped", "Frames of voice not sent because the process stood still"),
    ("packets_received", "Packets of voice received"),
)
_LINE = (
    ("local_loss", "loss_here_ratio", "Share of the other side's packets that do not arrive"),
    ("remote_loss", "loss_there_ratio", "Share of our packets that do not arrive"),
    ("jitter_s", "jitter_seconds", "Jitter of arrival (RFC 3550)"),
    ("round_trip_s", "round_trip_seconds", "Round trip to the other side"),
)
_HEALTH = (
    ("temperature_c", "temperature_celsius", "The hottest sensor of the board"),
    ("undervoltage", "undervoltage", "1 when the power supply is too weak"),
    ("disk_free_mb", "disk_free_megabytes", "Room on the disk"),
    ("memory_mb", "memory_megabytes", "Resident memory of the process"),
    ("threads", "threads", "Threads of the process"),
    ("descriptors", "descriptors", "Open files and sockets of the process"),
)


_IMAGE = (
    ("integrity_lost", "integrity_lost", "1 when what the system reads does not fit its hashes"),
    ("on_trial", "update_on_trial", "1 while a new system has yet to prove itself"),
    ("offered", "update_offered", "1 while a newer version is on offer"),
    (
        "update_refused",
        "update_refused",
        "1 when a bundle was refused lately: not for us, or of nobody we trust",
    ),
    ("updates_failed", "updates_failed", "Versions that did not prove themselves here"),
    ("data_remade", "data_remade", "1 when the data partition had to be made anew at this start"),
)


class DeviceCollector(Collector):
    """Ask for a snapshot at each scrape; nothing is counted twice."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    @override
    def collect(self) -> Iterable[Metric]:
        """Return the metrics of now."""
        now = self._snapshot()
        yield _gauge("up_seconds", "Time since the device started", now["up_s"])
        yield _gauge("backend_connected", "1 while the backend is reached", now["backend"] == "connected")
        yield _gauge("microphone_open", "1 while the microphone is open", now["microphone"] == "open")
        yield _gauge("in_call", "1 in a call", now["state"] in ("talking", "reconnecting"))
        yield _gauge("volume_percent", "Loudness in force", now["volume"])
        calls = CounterMetricFamily(PREFIX + "calls", "Calls by how they ended", labels=["reason"])
        for reason, count in now["calls"].items():
            calls.add_metric([reason], count)
        yield calls
        faults = GaugeMetricFamily(PREFIX + "fault", "1 for each part that is broken", labels=["part"])
        for part in now["faults"]:
            faults.add_metric([part], 1)
        yield faults
        yield _counter("reconnects", "Times the backend was lost and reached again", now["reconnects"])
        yield _counter("path_losses", "Times the line of a call was lost", now["path_losses"])
        set_up = GaugeMetricFamily(
            PREFIX + "set_up_seconds",
            "From the match to the first sound, of the last calls",
            labels=["quantile"],
        )
        for quantile, key in (("0.5", "p50"), ("0.95", "p95")):
            if now["set_up_s"][key] is not None:
                set_up.add_metric([quantile], now["set_up_s"][key])
        yield set_up
        yield from _parts(now)

    def describe(self) -> Iterable[Metric]:
        """Register without asking: the device may not be up yet."""
        return []


def _parts(now: Snapshot) -> Iterable[Metric]:
    sound: Mapping[str, Any] = now["sound"]
    for key, help_text in _SOUND:
        if key in sound:
            yield _counter(key, help_text, sound[key])
    if sound.get("echo_db") is not None:
        yield _gauge(
            "echo_decibels",
            "The loudspeaker's sound at the microphone, over what was played",
            sound["echo_db"],
        )
    pulled = sound.get("playout_pulled_samples") or 0
    if pulled:
        concealed = float(sound.get("playout_concealed_samples") or 0) / float(pulled)
        yield _gauge(
            "concealed_ratio", "Share of what was played that was made up for lost packets", concealed
        )
        delay = float(sound.get("playout_offset_samples") or 0) / SAMPLE_RATE
        yield _gauge("playout_delay_seconds", "Delay added against jitter", delay)
    for part, rows in ((now["line"] or {}, _LINE), (now["health"], _HEALTH)):
        for key, name, help_text in rows:
            if part.get(key) is not None:
                yield _gauge(name, help_text, part[key])
    yield from _image(now.get("image") or {})
    test = now["self_test"]
    if test:
        passed = test["outcome"] == "passed"
        yield _gauge("self_test_passed", "1 when the last self-test found no fault", passed)
        yield _gauge("self_test_age_seconds", "Time since the last self-test", test["age_s"])
        for key, value in test.get("figures", {}).items():
            yield _gauge(f"self_test_{key}", "Figure of the last self-test", value)


def _image(image: Mapping[str, Any]) -> Iterable[Metric]:
    for key, name, help_text in _IMAGE:
        if key in image:
            yield _gauge(name, help_text, bool(image[key]) if key != "updates_failed" else image[key])


def _gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, help_text, value=float(value))


def _counter(name: str, help_text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(PREFIX + name, help_text, value=float(value))


class Metrics:
    """The registry of one process, as text and over HTTP."""

    def __init__(self, collector: Collector) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(collector)
        self._server: Any = None

    def text(self) -> str:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry).decode()

    def serve(self, listen: str) -> None:
        """Answer HTTP on a loopback address, such as "127.0.0.1:9464"; "" for nothing.

        A port that is taken is a line in the log and no more: nobody's call depends on it.
        """
        if not listen:
            return
        host, _, port = listen.rpartition(":")
        if not ipaddress.ip_address(host.strip("[]")).is_loopback:
            raise ValueError("metrics are served on loopback only")
        try:
            self._server, _ = start_http_server(int(port), addr=host.strip("[]"), registry=self._registry)
        except OSError as error:
            logger.warning("metrics cannot be served: %s", error.strerror)

    def close(self) -> None:
        """Stop to answer; idempotent."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
