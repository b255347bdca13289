"""The dimmer: at once for full and dark, in a thread for all between."""

from __future__ import annotations

import threading
import time

from voicemeet_edge.panel.soft_pwm import SoftPwm


class Line:
    """Records what is written and by which thread; wakes a test after enough switching."""

    def __init__(self, enough: int) -> None:
        self.writes: list[tuple[bool, bool]] = []  # level, by the caller's own thread
        self.enough = enough
        self.reached = threading.Event()
        self.caller = threading.current_thread()

    def write(self, on: bool) -> None:
        self.writes.append((on, threading.current_thread() is self.caller))
        if len(self.writes) >= self.enough:
            self.reached.set()


def test_full_and_dark_are_written_by_the_caller_without_a_thread() -> None:
    line = Line(2)
    pwm = SoftPwm(line.write, 100)
    pwm.set(1.0)
    pwm.set(0.0)
    assert line.writes == [(True, True), (False, True)]
    assert pwm._thread is None
    pwm.close()


def test_a_dimmed_line_is_switched_by_the_thread() -> None:
    line = Line(6)
    pwm = SoftPwm(line.write, 200)
    pwm.set(0.3)
    assert line.reached.wait(30)
    pwm.close()
    assert [on for on, _ in line.writes[:4]] == [True, False, True, False]
    assert not any(by_caller for _, by_caller in line.writes)
    assert pwm.duty == 0.3


def test_full_after_dimmed_is_at_once_and_stays() -> None:
    line = Line(4)
    pwm = SoftPwm(line.write, 200)
    pwm.set(0.5)
    assert line.reached.wait(30)
    pwm.set(1.0)
    assert line.writes[-1] == (True, True)
    written = len(line.writes)
    threading.Event().wait(0.1)  # twenty periods, had the thread gone on
    assert len(line.writes) == written
    pwm.close()


def test_full_stays_when_the_dimmer_was_late() -> None:
    """On a machine that stalls, `set` comes between the end of a wait and its lock."""
    line = Line(1)
    pwm = SoftPwm(line.write, 200)
    pwm.set(0.5)
    assert line.reached.wait(30)
    while True:
        with pwm._condition:  # whoever waits meanwhile finds its time over and has to wait for the lock, too
            if line.writes[-1] == (True, False):
                time.sleep(0.1)  # twenty periods: a stall, not a wait for something
                pwm.set(1.0)
                break
    pwm.close()
    assert line.writes[-1] == (True, True), "the lamp of an open microphone is dark"


def test_out_of_range_is_clamped_and_close_is_idempotent() -> None:
    line = Line(1)
    pwm = SoftPwm(line.write, 100)
    pwm.set(7.0)
    assert pwm.duty == 1.0
    pwm.close()
    pwm.close()
    pwm.set(0.5)
    assert pwm.duty == 1.0


def test_a_lost_line_ends_the_thread_quietly() -> None:
    called = threading.Event()

    def lost(on: bool) -> None:
        called.set()
        raise OSError("gone")

    pwm = SoftPwm(lost, 100)
    pwm.set(0.5)
    assert called.wait(30)
    pwm.close()
