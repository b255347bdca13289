"""The keeper of the door lets go: when the time is over, when the other end is gone, when it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from voicemeet_edge.panel import door_keeper
from voicemeet_edge.panel.door_keeper import OPENED, keep_open, rest
from voicemeet_edge.testing.gpio import FakeGpiod

CHIP = "/dev/gpiochip0"
AT_REST, DRAWN = False, True


class Keeping:
    """The keeper in a thread, on a fake board."""

    def __init__(self, board: FakeGpiod, seconds: float, *, low: bool = False) -> None:
        stay, self.stay = os.pipe()
        self.told, tell = os.pipe()

        def keep() -> None:
            keep_open(board, CHIP, 5, seconds, low=low, asked_by=stay, tell=tell)
            os.close(stay)
            os.close(tell)

        self.thread = threading.Thread(target=keep)
        self.thread.start()
        assert os.read(self.told, 100) == OPENED

    def end(self) -> None:
        self.thread.join(30)
        assert not self.thread.is_alive()
        os.close(self.told)


@pytest.mark.parametrize("low", [False, True])
def test_it_lets_go_when_the_other_end_is_gone(low: bool) -> None:
    board = FakeGpiod()
    keeping = Keeping(board, 1000.0, low=low)
    assert board.line("GPIO5").level is not low
    os.close(keeping.stay)  # the device died
    keeping.end()
    assert board.line("GPIO5").history == [AT_REST, DRAWN, AT_REST]
    assert not board.line("GPIO5").used


def test_it_lets_go_when_the_time_is_over() -> None:
    board = FakeGpiod()
    keeping = Keeping(board, 0.05)
    keeping.end()  # while the other end still wants it open
    os.close(keeping.stay)
    assert board.line("GPIO5").history == [AT_REST, DRAWN, AT_REST]


def test_no_time_is_longer_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_keeper, "MAX_OPEN_S", 0.05)
    keeping = Keeping(FakeGpiod(), 1000.0)
    keeping.end()
    os.close(keeping.stay)


@pytest.mark.parametrize("low", [False, True])
def test_a_line_left_drawn_is_brought_to_rest(low: bool) -> None:
    board = FakeGpiod()
    rest(board, CHIP, 5, low=low)
    assert board.line("GPIO5").history == [AT_REST]
    assert not board.line("GPIO5").used


PROGRAM = """
import sys
from voicemeet_edge.panel import door_keeper
from voicemeet_edge.testing.gpio import FakeGpiod

class Told(FakeGpiod):
    pass

board = Told()
door_keeper.RealGpiod = lambda: board
try:
    door_keeper.main()
finally:
    print(board.line("GPIO5").history, board.line("GPIO5").used, flush=True)
"""


def test_the_process_lets_go_when_it_is_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, CHIP, "5", "1000", "high"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == OPENED
        keeper.send_signal(signal.SIGTERM)
        assert keeper.stdout.read() == b"[False, True, False] False\n"
        assert keeper.wait(30) == 0


def test_what_a_killed_keeper_held_is_brought_to_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, CHIP, "5", "1000", "low"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == OPENED
        keeper.kill()
    board = FakeGpiod()
    door_keeper.let_go(board)
    assert board.line("GPIO5").history == [AT_REST]
    door_keeper.let_go(board)  # there is no note any more
    assert board.line("GPIO5").history == [AT_REST]


def test_an_orderly_end_leaves_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    subprocess.run([sys.executable, "-c", PROGRAM, CHIP, "5", "1000", "high"], check=True, input=b"")
    assert list(tmp_path.iterdir()) == []
