"""The panel of a machine without GPIO: keys of a terminal, and the lamp as one line of text.

One rule: the terminal's own attributes are restored on every way out: close, exception, exit and SIGTERM.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
import termios
import threading
import tty
from collections.abc import AsyncIterator, Callable
from types import FrameType

from typing_extensions import override

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.panel.interface import ButtonEvent, Panel, PanelEvent
from voicemeet_edge.panel.queue import ButtonQueue

logger = logging.getLogger(__name__)

MAX_KEYS_PER_READ = 64  # bytes; more than anybody types between two turns of the loop

KEYS = {
    "c": ButtonEvent.CALL_PRESSED,
    "C": ButtonEvent.CALL_HELD,
    "h": ButtonEvent.CALL_HELD,
    "r": ButtonEvent.REPORT_PRESSED,
}
QUIT_KEY = "q"
HELP = "c call · C hold call · r report · q quit"

LAMP_TEXTS = {
    Lamp.OFF: "○ off",
    Lamp.READY: "◔ ready",
    Lamp.WAITING: "○ no connection, waiting",
    Lamp.SEEKING: "◑ looking for somebody",
    Lamp.RINGING: "◑ ringing",
    Lamp.CONNECTING: "◑ connecting",
    Lamp.MICROPHONE_OPEN: "● MICROPHONE OPEN",
    Lamp.DOOR_OPEN: "◑ THE DOOR IS OPEN, MICROPHONE OPEN",
    Lamp.ANNOUNCEMENT: "◑ announcement",
    Lamp.RECONNECTING: "◑ connection lost, trying again",
    Lamp.REPORT_WAITING: "◔ report waits for the network",
    Lamp.REPORT_SENT: "◔ report sent",
    Lamp.REPORT_FAILED: "○ report failed",
    Lamp.DISTRUST: "◑ NOT SAFE: somebody may be listening",
    Lamp.RESET_COUNT: "◑ hold on for a factory reset",
    Lamp.RESET_DONE: "◑ factory reset done",
    Lamp.ERROR: "○ out of order",
}


class TerminalPanel(Panel):
    """Keys and a line of text on the terminal behind a descriptor; made and used on the running loop.

    Args:
        terminal: descriptor of a terminal, as standard input is.
        on_quit: called on the loop when q is pressed or the terminal goes away.

    Raises:
        EnvironmentFault: the descriptor is no terminal.
    """

    def __init__(self, terminal: int, on_quit: Callable[[], None]) -> None:
        if not os.isatty(terminal):
            raise EnvironmentFault("the terminal panel needs a terminal", code="no_terminal")
        self._loop = asyncio.get_running_loop()
        self._on_quit = on_quit
        self._queue = ButtonQueue()
        self._lamp = Lamp.OFF
        self._fd = _open_again(terminal)
        self._saved_attributes = termios.tcgetattr(self._fd)
        self._restored = False
        self._replaced_handler = False
        try:
            tty.setcbreak(self._fd, termios.TCSADRAIN)
            atexit.register(self._restore)
            self._catch_sigterm()
            self._loop.add_reader(self._fd, self._read)
        except BaseException:
            self._restore()
            os.close(self._fd)
            raise
        self._draw()

    @override
    def events(self) -> AsyncIterator[PanelEvent]:
        """Yield button events until the panel is closed."""
        return self._queue.events()

    @override
    def show(self, lamp: Lamp) -> None:
        """Show this lamp's text from now on."""
        if lamp is not self._lamp and not self._restored:
            self._lamp = lamp
            self._draw()

    @override
    def dim(self, night_level: int) -> None:
        """Nothing to dim."""

    @override
    def alive_at(self) -> None:
        """It is read on the loop when a key comes, and never otherwise."""

    @override
    async def open_door(self, seconds: float) -> bool:
        """No door here."""
        return False

    @override
    async def close(self) -> None:
        """Give the terminal back; idempotent."""
        if self._restored:
            return
        self._loop.remove_reader(self._fd)
        self._queue.close()
        self._write("\r\x1b[K")
        self._restore()
        atexit.unregister(self._restore)
        if self._replaced_handler and signal.getsignal(signal.SIGTERM) == self._terminated:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(self._fd)

    def _read(self) -> None:
        try:
            keys = os.read(self._fd, MAX_KEYS_PER_READ)
        except BlockingIOError:
            return
        except OSError:  # EIO: the other side of the terminal is gone
            keys = b""
        if not keys:
            self._loop.remove_reader(self._fd)
            logger.info("The terminal is gone")
            self._on_quit()
            return
        for key in keys.decode("ascii", errors="ignore"):
            if key == QUIT_KEY:
                self._on_quit()
            elif key in KEYS:
                self._queue.put(KEYS[key])

    def _draw(self) -> None:
        self._write(f"\r\x1b[K{LAMP_TEXTS[self._lamp]:<38}  {HELP} ")

    def _write(self, text: str) -> None:
        try:
            os.write(self._fd, text.encode())
        except OSError:  # a stopped or vanished terminal must not stop a call
            pass

    def _restore(self) -> None:
        if self._restored:
            return
        self._restored = True
        try:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._saved_attributes)
        except termios.error:  # gone: nothing is left to be restored
            pass

    def _catch_sigterm(self) -> None:
        """Restore on SIGTERM too, when nobody else turns that signal into a clean end."""
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._terminated)
            self._replaced_handler = True

    def _terminated(self, number: int, _frame: FrameType | None) -> None:
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)


def _open_again(terminal: int) -> int:
    """Open the same terminal a second time, non-blocking.

    O_NONBLOCK belongs to the open file: set on standard input it would also hit standard output and
    the shell we came from.
    """
    for path in (_name(terminal), "/dev/tty"):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            continue
        return fd
    raise EnvironmentFault("the terminal cannot be opened", code="no_terminal")


def _name(terminal: int) -> str:
    try:
        return os.ttyname(terminal)
    except OSError:  # a terminal of another mount namespace has no name here
        return "/dev/tty"
