"""The terminal panel on a real pseudo-terminal: keys, the line of text, attributes restored."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.panel.interface import ButtonEvent, PanelEvent
from voicemeet_edge.panel.terminal import LAMP_TEXTS, TerminalPanel

WAIT_S = 30.0  # s; for another process to come up on a machine that may stall

CHILD = """
import asyncio, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored
from voicemeet_edge.call.signs import Lamp
from voicemeet_edge.panel.terminal import TerminalPanel

async def main():
    panel = TerminalPanel(0, lambda: None)
    panel.show(Lamp.READY)
    async for event in panel.events():
        if event.value == "report_pressed":
            raise SystemExit(3)
        if event.value == "call_held":
            raise ValueError("on purpose")

asyncio.run(main())
"""


class Pty:
    """Both ends of a pseudo-terminal."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def read_until(self, text: str) -> str:
        """Read what is on the screen until this text appears."""
        seen = b""
        while text.encode() not in seen:
            readable, _, _ = select.select([self.master], [], [], WAIT_S)
            assert readable, f"not on the screen: {text}; but: {seen!r}"
            seen += os.read(self.master, 4096)
        return seen.decode()

    def is_canonical(self) -> bool:
        return bool(termios.tcgetattr(self.slave)[3] & termios.ICANON)

    def close(self) -> None:
        for fd in (self.master, self.slave):
            try:
                os.close(fd)
            except OSError:
                pass


@pytest.fixture
def pty() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    pty.close()


async def collect(panel: TerminalPanel, count: int) -> list[PanelEvent]:
    events = panel.events()
    async with asyncio.timeout(WAIT_S):
        return [await anext(events) for _ in range(count)]


async def test_keys(pty: Pty) -> None:
    quits = asyncio.Event()
    panel = TerminalPanel(pty.slave, quits.set)
    pty.type(b"cC?hr\xc3\xa9")
    assert await collect(panel, 4) == [
        ButtonEvent.CALL_PRESSED,
        ButtonEvent.CALL_HELD,
        ButtonEvent.CALL_HELD,
        ButtonEvent.REPORT_PRESSED,
    ]
    assert not quits.is_set()
    pty.type(b"q")
    async with asyncio.timeout(WAIT_S):
        await quits.wait()
    await panel.close()


async def test_the_lamp_is_one_line_written_over(pty: Pty) -> None:
    panel = TerminalPanel(pty.slave, lambda: None)
    panel.show(Lamp.READY)
    panel.show(Lamp.READY)
    panel.show(Lamp.MICROPHONE_OPEN)
    await panel.close()
    screen = pty.read_until("MICROPHONE OPEN")
    assert screen.count("ready") == 1
    assert "\n" not in screen
    assert screen.count("\r\x1b[K") >= 3


def test_every_lamp_has_a_text_of_its_own() -> None:
    assert set(LAMP_TEXTS) == set(Lamp)
    assert len(set(LAMP_TEXTS.values())) == len(LAMP_TEXTS)
    assert [lamp for lamp, text in LAMP_TEXTS.items() if "●" in text] == [Lamp.MICROPHONE_OPEN]


async def test_close_gives_the_terminal_and_the_signal_back(pty: Pty) -> None:
    before = termios.tcgetattr(pty.slave)
    handler = signal.getsignal(signal.SIGTERM)
    panel = TerminalPanel(pty.slave, lambda: None)
    assert not pty.is_canonical()
    assert os.get_blocking(pty.slave)
    await panel.close()
    await panel.close()
    panel.show(Lamp.ERROR)
    assert termios.tcgetattr(pty.slave) == before
    assert signal.getsignal(signal.SIGTERM) == handler
    assert [event async for event in panel.events()] == []


async def test_a_handler_of_the_app_is_left_alone(pty: Pty) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: None)
    handler = signal.getsignal(signal.SIGTERM)
    panel = TerminalPanel(pty.slave, lambda: None)
    assert signal.getsignal(signal.SIGTERM) == handler
    await panel.close()
    assert signal.getsignal(signal.SIGTERM) == handler
    loop.remove_signal_handler(signal.SIGTERM)


async def test_a_terminal_that_goes_away_ends_the_program_and_raises_nothing(pty: Pty) -> None:
    gone = asyncio.Event()
    panel = TerminalPanel(pty.slave, gone.set)
    pty.close()
    async with asyncio.timeout(WAIT_S):
        await gone.wait()
    panel.show(Lamp.READY)
    await panel.close()


async def test_a_terminal_nobody_reads_stops_nothing(pty: Pty) -> None:
    panel = TerminalPanel(pty.slave, lambda: None)
    for _ in range(1000):  # far more than the kernel keeps for a reader
        panel.show(Lamp.READY)
        panel.show(Lamp.OFF)
    termios.tcflush(pty.slave, termios.TCOFLUSH)
    await panel.close()


async def test_a_pipe_is_no_terminal() -> None:
    reading, writing = os.pipe()
    with pytest.raises(EnvironmentFault, match="needs a terminal"):
        TerminalPanel(reading, lambda: None)
    os.close(reading)
    os.close(writing)


@pytest.mark.system
@pytest.mark.parametrize(
    ("ending", "status"),
    [
        (signal.SIGTERM, -signal.SIGTERM),
        (signal.SIGINT, -signal.SIGINT),
        (b"r", 3),  # SystemExit
        (b"C", 1),  # an exception nobody catches
    ],
)
def test_every_way_out_restores_the_terminal(pty: Pty, ending: signal.Signals | bytes, status: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=pty.slave, stderr=subprocess.DEVNULL)
    try:
        pty.read_until("ready")
        assert not pty.is_canonical()
        if isinstance(ending, bytes):
            pty.type(ending)
        else:
            child.send_signal(ending)
        assert child.wait(WAIT_S) == status
    finally:
        child.kill()
        child.wait(WAIT_S)
    assert pty.is_canonical()
