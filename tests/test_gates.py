"""The gates bite: what they are there to find, they find."""

from __future__ import annotations

import importlib.util
import runpy
import shutil
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from blockbuster import BlockingError
from coverage import Coverage, CoverageData

from voicemeet_edge.audio.wav import read_wav

ROOT = Path(__file__).parent.parent


async def test_a_file_that_the_product_reads_on_the_loop_fails_the_test(tmp_path: Path) -> None:
    file = tmp_path / "any.wav"
    file.write_bytes(b"RIFF")
    with pytest.raises(BlockingError):
        read_wav(file)


def test_a_function_that_nobody_calls_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("scripts", "voicemeet_edge", "bench"):
        (tmp_path / folder).mkdir()
    script = tmp_path / "scripts" / "unused"
    shutil.copy(ROOT / "scripts" / "unused", script)
    module = tmp_path / "voicemeet_edge" / "module.py"
    module.write_text(
        "def forgotten() -> None:\n    pass\n\n\ndef called() -> None:\n    pass\n\n\ncalled()\n"
    )
    with pytest.raises(SystemExit, match=r"^1$"):
        runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out.splitlines() == [
        "voicemeet_edge/module.py:1: function forgotten is used by nobody, or by tests only"
    ]


@pytest.fixture
def own_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The gate over a product of two modules: `room.door`, which does something, and `room.words`."""
    loader = SourceFileLoader("own_tests", str(ROOT / "scripts" / "own-tests"))
    spec = importlib.util.spec_from_loader("own_tests", loader)
    assert spec is not None
    gate = importlib.util.module_from_spec(spec)
    loader.exec_module(gate)
    door, words = tmp_path / "door.py", tmp_path / "words.py"
    door.write_text("def push():\n    a = 1\n    b = 2\n    c = 3\n    return a + b + c\n")
    words.write_text("PUSH = 1\nPULL = 2\n")
    monkeypatch.setattr(gate, "ROOT", tmp_path)
    monkeypatch.setattr(gate, "MODULES", {"room.door": door, "room.words": words})
    monkeypatch.setattr(gate, "BEHIND", {})
    return gate


def test_a_module_without_a_test_file_is_named(
    own_tests: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_tests.unnamed() == ["room.door: there is no tests/room/test_door.py"]
    monkeypatch.setattr(own_tests, "BEHIND", {"room.door": 20, "room.window": 0})
    (left,) = own_tests.unnamed()
    assert left.startswith("room.window: no such module")
    monkeypatch.setattr(own_tests, "BEHIND", {})
    (tmp_path / "tests" / "room").mkdir(parents=True)
    (tmp_path / "tests" / "room" / "test_door.py").touch()
    assert own_tests.unnamed() == []


def test_what_a_neighbours_test_runs_does_not_count(own_tests: ModuleType, tmp_path: Path) -> None:
    door, data = str(tmp_path / "door.py"), CoverageData(no_disk=True)
    for context, lines in (
        ("", [1]),
        ("tests/room/test_words.py", [2, 3, 4, 5]),
        ("tests/room/test_door.py", [2]),
    ):
        data.set_context(context)
        data.add_lines({door: lines})
    assert own_tests.own_share(Coverage(data_file=None), data, "room.door") == pytest.approx(40.0)
