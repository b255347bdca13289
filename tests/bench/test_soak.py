"""Some faults of a day, and what is made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import soak
from bench.soak import AS_ROOT, KINDS, Day, live, plot, table
from voicemeet_edge.testing.network import unavailable

SEED_OF_BOTH = 7  # draws each of the two once


def day(back_s: float = 1.0, growth: int = 0) -> Day:
    made = Day(1, [(kind, back_s) for kind in KINDS] * 20)
    made.held = [
        {f"{name} {what}": 100 for name in ("gate", "desk") for what in ("files", "anonymous_kb")}
        | {"relay sockets": 10}
        for _ in range(2)
    ]
    made.held[-1]["gate files"] += growth
    return made


def test_what_is_slow_grows_or_stays_away_is_not_well(tmp_path: Path) -> None:
    assert table(day())[1]
    assert not table(day(back_s=6.0))[1]
    assert not table(day(growth=40))[1]
    lost = day()
    lost.lost.append("hub")
    text, good = table(lost)
    assert not good
    assert "seed 1" in text
    plot(day(), tmp_path / "day.png")
    assert (tmp_path / "day.png").read_bytes().startswith(b"\x89PNG")


needs_coturn = pytest.mark.skipif(shutil.which("turnserver") is None, reason="needs Debian's coturn")


@pytest.mark.system
@needs_coturn
@pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
@pytest.mark.timeout(300)
async def test_a_cut_network_and_a_full_disk_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "EPISODES_PER_HOUR", 2)
    lived = await live(1, seed=SEED_OF_BOTH, say=print, kinds=AS_ROOT)
    assert lived.lost == []
    assert {kind for kind, _ in lived.back_s} == set(AS_ROOT)


@pytest.mark.system
@needs_coturn
@pytest.mark.timeout(300)
async def test_some_faults_are_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "EPISODES_PER_HOUR", 4)
    lived = await live(1, seed=3, say=print)
    assert lived.lost == []
    assert len(lived.back_s) == 4
    assert set(lived.growth().values()) == {0}  # one hour is its own first
