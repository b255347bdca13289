from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from voicemeet_edge.update.slots import BundleError, SlotError, Slots, run_command
from voicemeet_edge.update.version import SystemVersion


class Rauc:
    """Answers as RAUC does; the real one is asked in tests/machine."""

    def __init__(self, status: int = 0, out: str = "", error: str = "") -> None:
        self.asked: list[list[str]] = []
        self._answer = (status, out, error)

    def __call__(self, words: Sequence[str], _limit_s: float) -> subprocess.CompletedProcess[str]:
        self.asked.append(list(words))
        status, out, error = self._answer
        return subprocess.CompletedProcess(list(words), status, out, error)


def slots(tmp_path: Path, rauc: Rauc) -> Slots:
    return Slots(tmp_path, conf=tmp_path / "system.conf", run=rauc)


def test_board_and_version_of_here(tmp_path: Path) -> None:
    (tmp_path / "system.conf").write_text("[system]\ncompatible=voicemeet-edge-device-arm64\n")
    here = slots(tmp_path, Rauc()).here("0.1.0")
    assert (here.board, here.version) == ("voicemeet-edge-device-arm64", SystemVersion(0, 1, 0))


def test_a_system_without_a_board_says_so(tmp_path: Path) -> None:
    with pytest.raises(SlotError, match="board"):
        slots(tmp_path, Rauc()).here("0.1.0")


def test_what_is_in_the_other_slot_is_read_from_its_header(tmp_path: Path) -> None:
    (tmp_path / "root_b").write_bytes(b"vm_format=1\nvm_version=0.2.0\n".ljust(4096, b"\0"))
    (tmp_path / "root_a").write_bytes(bytes(4096))
    found = slots(tmp_path, Rauc())
    assert found.version_in("b") == SystemVersion(0, 2, 0)
    assert found.version_in("a") is None
    assert found.version_in("c") is None


def test_a_bundle_names_its_board_and_version(tmp_path: Path) -> None:
    rauc = Rauc(out=json.dumps({"compatible": "board", "version": "0.2.0"}))
    assert slots(tmp_path, rauc).look_into(Path("x")) == ("board", SystemVersion(0, 2, 0))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("signature verification failed: Verify error: self-signed certificate", "nobody this device trusts"),
        ("Not a valid RAUC bundle", "cut off"),
        ("Signature size (0) is zero", "cut off"),
        ("failed to load CA file: no start line", "no certificate"),
        ("something else", "something else"),
    ],
)
def test_a_refused_bundle_says_why(tmp_path: Path, said: str, why: str) -> None:
    with pytest.raises(BundleError, match=why):
        slots(tmp_path, Rauc(1, error=said)).look_into(Path("x"))


@pytest.mark.parametrize("out", ["", "{}", "[]", '{"compatible": "x", "version": "y"}'])
def test_a_bundle_of_another_form_is_refused(tmp_path: Path, out: str) -> None:
    with pytest.raises(BundleError, match="our form"):
        slots(tmp_path, Rauc(out=out)).look_into(Path("x"))


def test_what_was_not_written_says_why(tmp_path: Path) -> None:
    with pytest.raises(SlotError, match="No space left"):
        slots(tmp_path, Rauc(1, error="Installing\nNo space left")).install(Path("x"))
    rauc = Rauc(1, out="LastError: it is too large\nidle", error="Installing `x` failed")
    with pytest.raises(SlotError, match="written: it is too large"):
        slots(tmp_path, rauc).install(Path("x"))
    with pytest.raises(SlotError, match="mark-bad"):
        slots(tmp_path, Rauc(1)).leave_running()


def test_marks_are_in_the_order_that_a_power_cut_forgives(tmp_path: Path) -> None:
    rauc = Rauc()
    found = slots(tmp_path, rauc)
    found.trust_running()
    found.leave_running()
    found.forget_other()
    found.try_other()
    assert [" ".join(words[2:]) for words in rauc.asked] == [
        *("mark-good booted", "mark-active booted"),
        *("mark-bad booted", "mark-active other"),
        *("mark-bad other", "mark-active other"),
    ]


def test_without_rauc_and_without_an_end_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(SlotError, match="not installed"):
        Slots(tmp_path, run=lambda words, limit: run_command([str(tmp_path / "absent")], limit)).try_other()
    with pytest.raises(SlotError, match="did not end"):
        Slots(tmp_path, run=lambda words, _limit: run_command(["sleep", "10"], 0.01)).try_other()
