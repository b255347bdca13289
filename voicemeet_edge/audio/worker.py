"""One sound thread: opens its stream when it is wanted, runs it, and opens it again when it is lost.

One rule: the stream is opened, used and closed by this thread alone, so nobody closes a stream that is
being read. While the card is away a paced silence stands in for it and the call goes on.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from voicemeet_edge.errors import SoundError, XrunError, is_retryable
from voicemeet_edge.records import dataclass
from voicemeet_edge.threads import named_thread
from voicemeet_edge.voice.format import PERIOD_BYTES, PERIOD_MS

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 0.2  # s; a hub that resets its USB bus is back in about a second
LONGEST_RETRY_S = 0.5  # s; only what is wanted is retried, and a call waits for it
HOPELESS_RETRY_S = 5.0  # s; for a card that says it will never do what we ask: it may be another by then
IDLE_WAIT_S = 60.0  # s; an idle thread looks round once a minute even if nobody wakes it
REAL_TIME_PRIORITY = 10  # of 99: above every ordinary task, below the kernel's own threads
PACE_SLACK_S = 0.1  # s; the stand-in forgets time it slept through instead of making up for it


class Closable(Protocol):
    """Anything a worker can close."""

    def close(self) -> None:
        """Free it; never raises."""


Stream = TypeVar("Stream", bound=Closable)


class PacedSilence:
    """What stands in for a lost card: silence in, nothing out, at the pace of the clock."""

    periods = 1

    def __init__(self) -> None:
        self._next = time.monotonic()

    def _pace(self) -> None:
        self._next += PERIOD_MS * 1e-3
        wait = self._next - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        elif wait < -PACE_SLACK_S:
            self._next = time.monotonic()

    def read(self) -> bytes:
        """Return silence when a period has passed."""
        self._pace()
        return bytes(PERIOD_BYTES)

    def write(self, pcm: bytes) -> None:
        """Take a period when one has passed."""
        self._pace()

    def close(self) -> None:
        """Nothing to free."""


@dataclass(frozen=True, slots=True)
class StreamHooks(Generic[Stream]):
    """What the worker asks and tells, all in its own thread.

    `opening` comes before a stream may be open and `closed` after it surely is not, so that what hangs on
    them may be early or late but never claims a closed microphone that is open.
    """

    wanted: Callable[[], bool]
    open: Callable[[], Stream]
    step: Callable[[Stream | PacedSilence], None]
    opening: Callable[[], None]
    opened: Callable[[], None]
    closed: Callable[[], None]
    failed: Callable[[SoundError], None]
    recovered: Callable[[], None]


class StreamWorker(Generic[Stream]):
    """Own one direction of the card and the thread that serves it."""

    def __init__(self, name: str, hooks: StreamHooks[Stream], *, real_time: bool) -> None:
        self._hooks = hooks
        self._real_time = real_time
        self._wake = threading.Event()
        self._closing = False
        self._stream: Stream | None = None
        self._failed = False
        self._told = False
        self._retry_s = FIRST_RETRY_S
        self._retry_at = 0.0
        self._is_idle = True
        self._turned_at = 0.0
        self.xruns = 0
        self.losses = 0
        self.errors = 0
        self._thread = named_thread(name, self._main)

    @property
    def alive_at(self) -> float | None:
        """When it last served a period (monotonic); None while nobody wants sound of it."""
        if self._thread.ident is None or self._closing:
            return None
        return None if self._is_idle and self._thread.is_alive() else self._turned_at

    def wake(self) -> None:
        """Make the thread look at what is wanted; starts it the first time. Never blocks."""
        if self._closing:
            return
        if self._thread.ident is None:
            self._thread.start()
        self._wake.set()

    def close(self, timeout_s: float) -> bool:
        """End the thread; False when it hangs in the driver and had to be left behind. Blocks."""
        self._closing = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        if self._real_time:
            _ask_for_real_time()
        while not self._closing:
            self._wake.wait(IDLE_WAIT_S)
            self._wake.clear()
            self._turned_at, self._is_idle = time.monotonic(), False
            # Whoever wants the card now is told afresh when it is still away, and it is tried at once.
            self._told, self._retry_at = False, 0.0
            try:
                while not self._closing and self._hooks.wanted():
                    self._turn()
            except Exception:  # the top of a thread: anything else would end all sound for good
                self.errors += 1
                logger.exception(
                    "unexpected error in the %s thread; its stream is reopened", self._thread.name
                )
                self._wake.set()
                time.sleep(FIRST_RETRY_S)
            finally:
                self._close_stream()
            self._is_idle = True

    def _turn(self) -> None:
        """Do one period, with the card or with what stands in for it."""
        if self._stream is None and time.monotonic() >= self._retry_at:
            self._open_stream()
        stand_in = PacedSilence() if self._stream is None else None
        try:
            if stand_in is None and self._stream is not None:
                self._serve(self._stream)
                return
            while stand_in and not self._closing and self._hooks.wanted():
                if time.monotonic() >= self._retry_at:
                    return
                self._serve(stand_in)
        except XrunError:
            self.xruns += 1
        except SoundError as error:
            self._lose(error)

    def _serve(self, stream: Stream | PacedSilence) -> None:
        self._hooks.step(stream)
        self._turned_at = time.monotonic()

    def _open_stream(self) -> None:
        self._hooks.opening()
        try:
            self._stream = self._hooks.open()
        except SoundError as error:
            self._hooks.closed()
            self._lose(error)
            return
        self._retry_s = FIRST_RETRY_S
        self._hooks.opened()
        if self._failed:
            self._failed = self._told = False
            logger.info("%s: the card is back", self._thread.name)
            self._hooks.recovered()

    def _lose(self, error: SoundError) -> None:
        self._close_stream()
        self.losses += 1
        retry_s = self._retry_s if is_retryable(error) else HOPELESS_RETRY_S
        self._retry_s = min(self._retry_s * 2.0, LONGEST_RETRY_S)
        self._retry_at = time.monotonic() + retry_s
        self._failed = True
        if not self._told:
            self._told = True
            logger.warning("%s: %s: %s", self._thread.name, error.code, error)
            self._hooks.failed(error)
        else:
            logger.debug("%s: still %s", self._thread.name, error.code)

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
            self._hooks.closed()


def _ask_for_real_time() -> None:
    """Ask for SCHED_FIFO for the calling thread; without the right to it, do without."""
    try:
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(REAL_TIME_PRIORITY))
    except (OSError, AttributeError) as error:
        logger.debug("no real-time priority: %s", error)
