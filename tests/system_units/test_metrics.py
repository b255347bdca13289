"""Metrics as a collector reads them."""

from __future__ import annotations

import json
import re
import urllib.request
from dataclasses import asdict
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.ports import reserved_port
from tests.system_units.test_status import moment
from voicemeet_edge.audio.events import EngineStats
from voicemeet_edge.call.machine import State
from voicemeet_edge.call.observed import BackendChanged, FaultChanged, Started, StateChanged
from voicemeet_edge.hub.figures import HubFigures
from voicemeet_edge.hub.metrics import HubCollector
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.system.board import Board
from voicemeet_edge.system.machine_health import MachineHealth
from voicemeet_edge.system.metrics import DeviceCollector, Metrics
from voicemeet_edge.system.snapshot import as_values
from voicemeet_edge.voice.playout import PlayoutStats


def values(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_a_collector_reads() -> None:
    board = Board()
    board.observe(Started())
    board.observe(BackendChanged(True))
    board.observe(StateChanged(State.ENDED, 1.0, EndReason.HUNG_UP))
    board.observe(FaultChanged("microphone", "sound_device_lost"))
    sound = {
        "frames_sent": 7,
        "playout_pulled_samples": 1000,
        "playout_concealed_samples": 20,
        "echo_db": -12.5,
    }
    now = moment(board) | {"sound": sound, "line": {"local_loss": 0.25, "round_trip_s": None}}
    read = values(Metrics(DeviceCollector(lambda: now)).text())
    assert read["voicemeet_calls_total", "hung_up"] == 1
    assert read["voicemeet_fault", "microphone"] == 1
    assert read["voicemeet_backend_connected", ""] == 1
    assert read["voicemeet_frames_sent_total", ""] == 7
    assert read["voicemeet_concealed_ratio", ""] == 0.02
    assert read["voicemeet_echo_decibels", ""] == -12.5
    assert read["voicemeet_loss_here_ratio", ""] == 0.25
    assert ("voicemeet_round_trip_seconds", "") not in read
    assert read["voicemeet_temperature_celsius", ""] == 51.2


def test_no_label_can_grow_without_bound() -> None:
    board = Board()
    for number in range(1000):
        board.observe(StateChanged(State.ENDED, 1.0, EndReason.of(f"made up {number}")))
    text = Metrics(DeviceCollector(lambda: moment(board))).text()
    assert sum(line.startswith("voicemeet_calls_total") for line in text.splitlines()) == 1


def test_over_http_on_loopback(caplog: pytest.LogCaptureFixture) -> None:
    port = reserved_port()
    metrics = Metrics(DeviceCollector(moment))
    metrics.serve(f"127.0.0.1:{port}")
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            assert ("voicemeet_volume_percent", "") in values(answer.read().decode())
        other = Metrics(DeviceCollector(moment))
        other.serve(f"127.0.0.1:{port}")
        assert "metrics cannot be served" in caplog.text
    finally:
        metrics.close()
    with pytest.raises(ValueError, match="loopback"):
        metrics.serve("0.0.0.0:1")


def test_the_board_asks_for_metrics_that_there_are() -> None:
    board = json.loads((Path(__file__).parent.parent.parent / "docs" / "grafana.json").read_text())
    full = moment() | {
        "calls": {"hung_up": 1},
        "faults": {"microphone": "sound_device_lost"},
        "set_up_s": {"p50": 0.2, "p95": 0.4, "count": 2},
        "sound": as_values(EngineStats(playout=PlayoutStats(pulled_samples=1))),
        "line": {"local_loss": 0.0, "remote_loss": 0.0, "jitter_s": 0.0, "round_trip_s": 0.01},
        "health": asdict(MachineHealth(51.0, False, 900, 66.0, 5, 20, 90.0)),
        "self_test": {"outcome": "passed", "age_s": 1.0, "figures": {"likeness": 0.9, "delay_seconds": 0.1}},
    }
    hub = HubFigures(
        coturn_running=True, answers={("match", 200): 1}, match_events={"made": 1}, connection_events={"x": 1}
    )
    there = {name for name, _ in values(Metrics(DeviceCollector(lambda: full)).text())}
    there |= {name for name, _ in values(Metrics(HubCollector(lambda: hub)).text())}
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"voicemeet_\w+", target["expr"])
    }
    assert asked
    assert asked <= there
