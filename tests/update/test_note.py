from __future__ import annotations

from pathlib import Path

import pytest

from voicemeet_edge.update.history import History, OnTrial
from voicemeet_edge.update.memory import Memory
from voicemeet_edge.update.note import NOTE_AT, NOTE_BYTES, parse_note, read_note, write_note
from voicemeet_edge.update.version import SystemVersion

TRIAL = OnTrial("0.2.0", "b", "a")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The partition with the boot state, full of what others wrote."""
    (tmp_path / "run").mkdir()
    path = tmp_path / "run/bootstate"
    path.write_bytes(b"\xff" * 0x10000)
    return path


@pytest.fixture
def memory(state: Path, tmp_path: Path) -> Memory:
    return Memory(tmp_path / "data", state.parent)


def test_a_note_is_read_as_it_was_written_and_touches_nothing_else(state: Path) -> None:
    assert read_note(state) is None
    write_note(state, TRIAL)
    assert read_note(state) == TRIAL
    raw = state.read_bytes()
    assert raw[:NOTE_AT] + raw[NOTE_AT + NOTE_BYTES :] == b"\xff" * (0x10000 - NOTE_BYTES)
    write_note(state, None)
    assert read_note(state) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"voicemeet-trial 0.2.0 a a",
        b"voicemeet-trial 0.2.0 a c",
        b"voicemeet-trial x a b",
        b"voicemeet-trial 0.2.0 a b c",
        b"else 0.2.0 a b",
    ],
)
def test_what_makes_no_sense_is_no_note(raw: bytes) -> None:
    assert parse_note(raw.ljust(NOTE_BYTES, b"\0")) is None


def test_a_trial_outlives_the_data_partition(memory: Memory, state: Path) -> None:
    memory.save(memory.load().begins(SystemVersion(0, 2, 0), "b", "a"))
    for raw in (None, b"\x55" * 100):
        path = memory.folder / "history.json"
        path.unlink() if raw is None else path.write_bytes(raw)
        assert memory.load().trial == TRIAL
    assert (memory.folder / "on-trial").read_text() == "b\n"
    memory.save(memory.load().proved())
    assert read_note(state) is None
    (memory.folder / "history.json").unlink()
    assert memory.load().trial is None


def test_the_history_comes_before_the_note(memory: Memory, state: Path) -> None:
    memory.save(History.new())
    write_note(state, TRIAL)
    assert memory.load().trial is None


def test_without_the_partition_everything_else_works(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    memory = Memory(tmp_path / "data", tmp_path / "run")
    memory.save(memory.load().begins(SystemVersion(0, 2, 0), "b", "a"))
    assert memory.load().trial == TRIAL
    assert not (tmp_path / "run/bootstate").exists()
