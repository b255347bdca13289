"""Dimming a lamp on a line that only knows on and off.

One rule: fully on and fully off are written at once and by the caller, so that the lamp of an open
microphone never waits for a thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from voicemeet_edge.threads import named_thread

logger = logging.getLogger(__name__)

IDLE_LIMIT_S = 60.0  # s; a parked thread is woken by notify, this only bounds a lost one
JOIN_LIMIT_S = 2.0  # s; longer than any one period


class SoftPwm:
    """Switch a line on and off `frequency` times a second; the thread works only while it is dimmed."""

    def __init__(self, write: Callable[[bool], None], frequency: float) -> None:
        self._write = write
        self._period_s = 1.0 / frequency
        self._condition = threading.Condition()
        self._duty = 0.0
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def duty(self) -> float:
        """The share of time the line is on, 0 to 1."""
        return self._duty

    def set(self, duty: float) -> None:
        """Set the share of time the line is on.

        Raises:
            OSError: the line is gone (only for 0 and 1, which are written here).
        """
        with self._condition:
            if self._stopping:
                return
            self._duty = min(1.0, max(0.0, duty))
            if self._duty in (0.0, 1.0):
                self._write(self._duty == 1.0)
            elif self._thread is None:
                self._thread = named_thread("lamp-dimmer", self._run)
                self._thread.start()
            self._condition.notify_all()

    def close(self) -> None:
        """End the thread and leave the line as it is; idempotent."""
        with self._condition:
            self._stopping = True
            thread, self._thread = self._thread, None
            self._condition.notify_all()
        if thread is not None:
            thread.join(JOIN_LIMIT_S)

    def _run(self) -> None:
        try:
            with self._condition:
                while not self._stopping:
                    self._one_period()
        except Exception as error:  # the top of this thread: the lamp is lost, the device is not
            logger.warning("The lamp cannot be dimmed any more: %s", type(error).__name__)

    def _one_period(self) -> None:
        """Write one on and one off; waiting on the condition lets `set` in between."""
        duty = self._duty
        if duty in (0.0, 1.0):
            self._condition.wait(IDLE_LIMIT_S)
            return
        self._write(True)
        self._condition.wait(self._period_s * duty)
        if self._duty != duty:
            # Not by what `wait` says: its time may be over before `set` comes, which then has the lock first.
            # Darkness written over full light would stay, and the microphone be open without its lamp.
            return
        self._write(False)
        self._condition.wait(self._period_s * (1.0 - duty))
