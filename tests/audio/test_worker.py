from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from voicemeet_edge.audio import worker as worker_module
from voicemeet_edge.audio.worker import PacedSilence, StreamHooks, StreamWorker
from voicemeet_edge.errors import DeviceLostError, SoundError, SoundFatalError, XrunError


class Stream:
    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def close(self) -> None:
        self._bench.log.append("close")


class Bench:
    """A worker whose every hook is seen and whose stream does as told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.wanted = False
        self.opening_fails: list[Exception] = []
        self.step_fails: list[Exception] = []
        self.steps = 0
        self.silent_steps = 0
        self.hang = threading.Event()
        self.hang.set()
        self.stands = threading.Event()
        """Set once the thread is where it hangs."""
        self.worker = StreamWorker[Stream](
            "test-sound",
            StreamHooks(
                wanted=lambda: self.wanted,
                open=self._open,
                step=self._step,
                opening=lambda: self.log.append("opening"),
                opened=lambda: self.log.append("opened"),
                closed=lambda: self.log.append("closed"),
                failed=lambda error: self.log.append(f"failed {error.code}"),
                recovered=lambda: self.log.append("recovered"),
            ),
            real_time=False,
        )

    def _open(self) -> Stream:
        if self.opening_fails:
            raise self.opening_fails.pop(0)
        return Stream(self)

    def _step(self, stream: Stream | PacedSilence) -> None:
        if not self.hang.is_set():
            self.stands.set()
            self.hang.wait(60)
        if isinstance(stream, PacedSilence):
            self.silent_steps += 1
            stream.read()
            return
        if self.step_fails:
            raise self.step_fails.pop(0)
        self.steps += 1
        time.sleep(0.001)

    def want(self, wanted: bool) -> None:
        self.wanted = wanted
        self.worker.wake()


def has_thread() -> bool:
    return "test-sound" in {thread.name for thread in threading.enumerate()}


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.002)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.hang.set()
    assert made.worker.close(10)


def test_no_thread_before_it_is_needed(bench: Bench) -> None:
    assert not has_thread()
    assert bench.worker.close(0)


def test_opened_served_and_closed(bench: Bench) -> None:
    bench.want(True)
    wait(lambda: bench.steps > 3)
    bench.want(False)
    wait(lambda: "closed" in bench.log)
    assert bench.log == ["opening", "opened", "close", "closed"]
    bench.want(True)
    wait(lambda: bench.log.count("opened") == 2)


def test_lost_and_found(bench: Bench) -> None:
    bench.want(True)
    wait(lambda: bench.steps > 0)
    bench.opening_fails = [DeviceLostError(), DeviceLostError()]
    bench.step_fails = [DeviceLostError()]
    wait(lambda: "recovered" in bench.log)
    assert bench.log.count("failed sound_device_lost") == 1
    assert bench.worker.losses == 3
    assert bench.silent_steps > 0
    assert bench.log[:4] == ["opening", "opened", "close", "closed"]
    assert bench.log[-1] == "recovered"


def test_card_that_cannot_be_used_is_told_in_every_session(bench: Bench) -> None:
    refused: list[Exception] = [SoundFatalError() for _ in range(2)]
    bench.opening_fails = refused
    for count in (1, 2):
        bench.want(True)
        wait(lambda count=count: bench.log.count("failed sound_unusable") == count)  # type: ignore[misc]
        bench.want(False)
        wait(lambda: bench.worker.alive_at is None)  # it rests
    bench.want(True)
    wait(lambda: "recovered" in bench.log)


def test_xrun_is_counted_and_the_stream_stays(bench: Bench) -> None:
    bench.step_fails = [XrunError(), XrunError()]
    bench.want(True)
    wait(lambda: bench.steps > 0)
    assert bench.worker.xruns == 2
    assert bench.log == ["opening", "opened"]


def test_what_nobody_foresaw_closes_the_stream_and_sound_goes_on(bench: Bench) -> None:
    bench.step_fails = [ZeroDivisionError()]
    bench.want(True)
    wait(lambda: bench.steps > 0)
    assert bench.worker.errors == 1
    assert bench.log == ["opening", "opened", "close", "closed", "opening", "opened"]


def test_a_thread_that_hangs_is_left_behind(bench: Bench) -> None:
    bench.hang.clear()
    bench.want(True)
    wait(lambda: "opened" in bench.log)
    assert not bench.worker.close(0.05)
    bench.hang.set()


def test_it_proves_that_it_lives_while_it_is_wanted_and_owes_no_proof_otherwise(bench: Bench) -> None:
    assert bench.worker.alive_at is None, "not started yet"
    bench.want(True)
    wait(lambda: bench.steps > 3)
    seen = bench.worker.alive_at
    assert seen is not None
    wait(lambda: (bench.worker.alive_at or 0.0) > seen)
    bench.want(False)
    wait(lambda: bench.worker.alive_at is None)


def test_a_thread_that_hangs_gives_no_more_proof_of_life(bench: Bench) -> None:
    bench.want(True)
    wait(lambda: bench.steps > 0)
    bench.hang.clear()
    assert bench.stands.wait(20)
    stood = bench.worker.alive_at
    bench.want(False)
    assert stood is not None
    assert bench.worker.alive_at == stood, "neither moved on nor excused"
    bench.hang.set()
    wait(lambda: bench.worker.alive_at is None)


def test_a_stand_in_for_a_lost_card_proves_life_too(bench: Bench) -> None:
    bench.opening_fails = [SoundFatalError() for _ in range(20)]
    bench.want(True)
    wait(lambda: bench.silent_steps > 2)
    seen = bench.worker.alive_at or 0.0
    wait(lambda: (bench.worker.alive_at or 0.0) > seen > 0.0)


def test_waking_after_close_does_nothing(bench: Bench) -> None:
    assert bench.worker.close(1)
    bench.want(True)
    assert not has_thread()


def test_back_off_grows_to_its_limit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "LONGEST_RETRY_S", 0.4)
    errors: list[SoundError] = [DeviceLostError() for _ in range(4)]
    bench.opening_fails = list(errors)
    bench.want(True)
    wait(lambda: "recovered" in bench.log)
    assert bench.worker.losses == 4


def test_stand_in_forgets_time_it_slept_through() -> None:
    silence = PacedSilence()
    silence._next -= 60.0
    for _ in range(3):
        silence.write(b"")
    assert silence._next > time.monotonic() - 1.0
    assert silence.read() == bytes(960)
