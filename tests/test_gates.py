"""The gates bite: what they are there to find, they find."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest
from blockbuster import BlockingError

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
