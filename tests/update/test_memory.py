from __future__ import annotations

import json
from pathlib import Path

import pytest

from voicemeet_edge.update.history import History
from voicemeet_edge.update.memory import Memory, NoImageError, OtherRunsError
from voicemeet_edge.update.version import SystemVersion


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/slot").write_text("a\n")
    return Memory(tmp_path / "data", tmp_path / "run")


def test_the_id_of_the_first_time_stays(memory: Memory) -> None:
    first = memory.load()
    assert memory.load() == first


def test_the_scripts_see_a_trial_as_long_as_it_lasts(memory: Memory) -> None:
    mark = memory.folder / "on-trial"
    history = memory.load().begins(SystemVersion(0, 2, 0), "b", "a")
    memory.save(history)
    assert mark.read_text() == "b\n"
    memory.save(history.proved())
    assert not mark.exists()


def test_without_an_image_there_is_nothing_to_update(tmp_path: Path) -> None:
    with pytest.raises(NoImageError, match="apt"):
        Memory(tmp_path, tmp_path).slot()
    (tmp_path / "slot").write_text("c")
    with pytest.raises(NoImageError):
        Memory(tmp_path, tmp_path).slot()


def test_two_do_not_update_at_a_time(memory: Memory) -> None:
    with memory.alone(), pytest.raises(OtherRunsError), memory.alone():
        pass
    with memory.alone():
        pass


def test_a_slots_own_state_is_forgotten_and_the_others_stays(memory: Memory, tmp_path: Path) -> None:
    for slot in "ab":
        (tmp_path / "data/slots" / slot).mkdir(parents=True)
    memory.forget_state_of("b")
    memory.forget_state_of("b")
    assert [path.name for path in (tmp_path / "data/slots").iterdir()] == ["a"]


def test_what_the_device_tells_names_nobody(memory: Memory, tmp_path: Path) -> None:
    history = memory.load()
    memory.tell(history, slot="a", offered="0.2.0")
    text = (tmp_path / "run/update.json").read_text()
    assert history.device_id not in text
    assert json.loads(text)["offered"] == "0.2.0"


def test_a_spoiled_history_is_a_new_one(memory: Memory) -> None:
    memory.save(History.new())
    (memory.folder / "history.json").write_bytes(b"\x00" * 100)
    assert memory.load().device_id
