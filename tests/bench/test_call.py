"""The bench of whole calls runs: two of our devices and two stock peers, and its table is filled.

No figure is judged here: a loaded machine may give any.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import call
from bench.call_meter import wire
from bench.call_score import _spoken, recovery
from voicemeet_edge.audio.wav import write_wav
from voicemeet_edge.testing.network import Captured
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.testing.stalls import Stall, StallWatch


@pytest.mark.system
@pytest.mark.timeout(180)
def test_a_clean_call_of_both_kinds_fills_the_table(tmp_path: Path) -> None:
    speech = tmp_path / "speech.wav"
    write_wav(speech, speech_like(6.0))
    told: list[str] = []

    status = call.main(
        ["--seconds", "5", "--speech", str(speech), "--out", str(tmp_path / "out")], told.append
    )

    assert status == 0, told
    runs = json.loads((tmp_path / "out" / "clean.json").read_text())
    assert [run["kind"] for run in runs] == ["ours", "stock"]
    for run in runs:
        for end in run["ends"]:
            assert end["cpu_ms_s"] > 0
            assert end["samples"][-1]["resident_kb"] > 0
            assert end["heard"]["quality"]["segments"]
    assert (tmp_path / "out" / "clean.png").stat().st_size > 0
    assert "CPU, VoiceMeet to aiortc" in told[-1]


def test_a_stall_touches_what_it_overlaps() -> None:
    watch = StallWatch()
    watch.stalls.append(Stall(10.0, 0.5))

    assert watch.touches(9.0, 10.1)
    assert watch.touches(10.4, 11.0)
    assert not watch.touches(10.6, 11.0)
    assert not watch.touches(9.0, 9.9)


def _packet(moment: float, first: int, second: int, size: int) -> Captured:
    return Captured(moment, size + 28, 17, ("10.0.0.1", 1), ("10.0.0.2", 2), bytes((first, second)), size)


def test_the_wire_counts_rtp_by_size_and_leaves_out_stun() -> None:
    packets = [
        _packet(1.0, 0x80, 96, 140),
        _packet(1.5, 0x80, 96, 140),
        _packet(1.6, 0x80, 200, 60),
        _packet(1.7, 0, 1, 100),
        _packet(9.0, 0x80, 96, 333),
    ]

    found = wire(packets, "10.0.0.1", 1.0, 3.0)

    assert found.sizes == ((140, 2),)
    assert found.kilobits_s == pytest.approx((168 + 168 + 88) * 8 / 2000)


def test_recovery_is_when_the_delay_stays_what_it_was() -> None:
    before = [(at / 2, 80.0) for at in range(20)]
    after = [(13.0, 300.0), (13.5, 90.0), (14.0, 200.0), (14.5, 95.0), (15.0, 80.0)]

    assert recovery((*before, *after), 10.0) == pytest.approx(1.5)
    assert recovery((*before, (13.0, 300.0)), 10.0) == np.inf


def test_a_microphone_opened_again_begins_its_speech_anew() -> None:
    speech = np.arange(1, 4801, dtype=np.int16)  # 0.1 s

    spoken = _spoken(speech, [9.95, 10.5], 10.0, 1.0)

    assert spoken[0] == 2401  # 50 ms into it
    assert spoken[24_000] == 1
    assert spoken[23_999] == (round(0.55 * 48_000) - 1) % 4800 + 1
