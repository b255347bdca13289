"""The pin factory on a fake board, driven through gpiozero's own devices."""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Any

import pytest
from _pytest.logging import LogCaptureFixture
from gpiod.line import Bias, Clock, Direction, Edge
from gpiozero import LED, PWMLED, Button, InputDevice
from gpiozero.exc import (
    GPIOPinInUse,
    PinInvalidBounce,
    PinInvalidEdges,
    PinInvalidFunction,
    PinInvalidPin,
    PinInvalidPull,
    PinMultiplePins,
    PinSetInput,
    PinUnsupported,
)

from voicemeet_edge.panel import edge_reader
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.testing.gpio import FakeGpiod

# bcm2711-rpi-4-b.dts of the mainline kernel; the first 28 lines are the header.
PI4_MAINLINE = [
    *(
        "ID_SDA",
        "ID_SCL",
        "SDA1",
        "SCL1",
        "GPIO_GCLK",
        "GPIO5",
        "GPIO6",
        "SPI_CE1_N",
        "SPI_CE0_N",
        "SPI_MISO",
    ),
    *("SPI_MOSI", "SPI_SCLK", "GPIO12", "GPIO13", "TXD1", "RXD1"),
    *(f"GPIO{number}" for number in range(16, 28)),
    *("RGMII_MDIO", "RGMIO_MDC"),
]
WAIT_S = 30.0  # s; for what happens in another thread, on a machine that may stall


@pytest.fixture
def board() -> FakeGpiod:
    return FakeGpiod()


@pytest.fixture
def factory(board: FakeGpiod) -> Iterator[GpiodFactory]:
    factory = GpiodFactory(board)
    yield factory
    factory.close()
    factory.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("gpio-", "lamp-"))]


class Edges:
    """A handler that keeps what it is told, and a way to wait for it."""

    def __init__(self) -> None:
        self.told: queue.Queue[tuple[float, int]] = queue.Queue()

    def take(self, ticks: float, state: int) -> None:
        self.told.put((ticks, state))

    def next(self) -> tuple[float, int]:
        return self.told.get(timeout=WAIT_S)


def test_gpiozero_finds_the_factory_by_its_entry_point() -> None:
    found = [one for one in entry_points(group="gpiozero_pin_factories") if one.name == "gpiod"]
    assert found[0].load() is GpiodFactory


class TestFinding:
    def test_a_line_is_found_on_whatever_chip_has_it(self) -> None:
        board = FakeGpiod(["EXP0", "EXP1"], ["-", "-", "GPIO17"])
        factory = GpiodFactory(board)
        led = LED("GPIO17", pin_factory=factory)
        led.on()
        assert board.line("GPIO17").history[-1] is True
        assert board.line("GPIO17").owner == "voicemeet-edge"
        led.close()
        factory.close()

    def test_a_line_of_the_header_that_this_kernel_calls_otherwise(self, caplog: LogCaptureFixture) -> None:
        board = FakeGpiod(["EXP0"], PI4_MAINLINE)
        factory = GpiodFactory(board)
        with caplog.at_level("INFO"), LED("GPIO4", pin_factory=factory) as led:
            led.on()
            assert board.line("GPIO_GCLK").history[-1] is True
        assert "GPIO4 is called GPIO_GCLK on this kernel" in caplog.text
        factory.close()

    @pytest.mark.parametrize(
        ("asked", "called"), [("PIN11", "GPIO17"), ("BOARD3", "SDA1"), ("J8:8", "TXD1"), ("gpio3", "SCL1")]
    )
    def test_a_place_on_the_header(self, asked: str, called: str) -> None:
        board = FakeGpiod(PI4_MAINLINE)
        factory = GpiodFactory(board)
        with LED(asked, pin_factory=factory):
            assert board.line(called).owner == "voicemeet-edge"
        factory.close()

    def test_settings_of_the_mainline_kernel_work_on_raspberry_pi_os(self, board: FakeGpiod) -> None:
        factory = GpiodFactory(board)
        with LED("GPIO_GCLK", pin_factory=factory):
            assert board.line("GPIO4").owner == "voicemeet-edge"
        factory.close()

    def test_lines_without_any_name(self) -> None:
        board = FakeGpiod([""] * 54)
        factory = GpiodFactory(board)
        assert factory.pin("GPIO17").info.number == 17
        factory.close()

    @pytest.mark.parametrize(
        ("names", "label"),
        [
            ([f"X{n}" for n in range(40)], "some-other-chip"),
            ([f"GPIO{n + 1}" for n in range(16)] + [""] * 20, "pinctrl-bcm2711"),
            (["SDA1", "SCL1"], "pinctrl-bcm2711"),
        ],
    )
    def test_only_a_chip_that_is_the_headers_is_gone_by(self, names: list[str], label: str) -> None:
        factory = GpiodFactory(FakeGpiod(names, label=label))
        with pytest.raises(PinInvalidPin, match="no GPIO line is called GPIO20"):
            factory.pin("GPIO20")
        factory.close()

    def test_power_is_no_line(self, factory: GpiodFactory) -> None:
        with pytest.raises(PinInvalidPin, match="position 6 of the header is ground"):
            factory.pin("PIN6")
        with pytest.raises(PinInvalidPin):
            LED("PIN6", pin_factory=factory)

    def test_one_line_by_two_names_is_one_line(self, factory: GpiodFactory) -> None:
        assert factory.pin("PIN11") is factory.pin("GPIO17")
        with LED("PIN13", pin_factory=factory), pytest.raises(GPIOPinInUse):
            LED("GPIO27", pin_factory=factory)

    def test_a_line_in_use_says_what_it_is_called_here(self) -> None:
        board = FakeGpiod(PI4_MAINLINE)
        board.line("SDA1").owner = "i2c"
        factory = GpiodFactory(board)
        with pytest.raises(GPIOPinInUse, match=r"GPIO2 \(SDA1 on this kernel\) is in use by i2c"):
            factory.pin("GPIO2")
        factory.close()

    def test_a_missing_line(self, factory: GpiodFactory) -> None:
        with pytest.raises(PinInvalidPin, match="no GPIO line is called GPIO99"):
            LED("GPIO99", pin_factory=factory)

    def test_a_name_on_two_chips(self) -> None:
        factory = GpiodFactory(FakeGpiod(["GPIO17"], ["GPIO17"]))
        with pytest.raises(PinMultiplePins, match="gpiochip0, /dev/gpiochip1"):
            LED("GPIO17", pin_factory=factory)
        factory.close()

    def test_a_line_in_use_names_its_user(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        board.line("GPIO17").owner = "spi0 CS0"
        with pytest.raises(GPIOPinInUse, match="GPIO17 is in use by spi0 CS0"):
            LED("GPIO17", pin_factory=factory)

    def test_the_same_line_twice_is_refused_by_gpiozero(self, factory: GpiodFactory) -> None:
        with LED("GPIO17", pin_factory=factory), pytest.raises(GPIOPinInUse):
            LED(17, pin_factory=factory)

    def test_no_chip_at_all(self) -> None:
        board = FakeGpiod()
        board.chip_paths = list  # type: ignore[method-assign]
        factory = GpiodFactory(board)
        with pytest.raises(PinUnsupported, match="there is no /dev/gpiochip"):
            LED("GPIO17", pin_factory=factory)
        factory.close()

    def test_no_permission(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        board.refuse_open = PermissionError(13, "Permission denied")
        with pytest.raises(PinUnsupported, match="Permission denied"):
            LED("GPIO17", pin_factory=factory)

    def test_a_closed_line_can_be_taken_again(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        LED("GPIO17", pin_factory=factory).close()
        assert not board.line("GPIO17").used
        with LED("GPIO17", pin_factory=factory):
            assert board.line("GPIO17").used

    def test_a_machine_without_gpio_says_so(self) -> None:
        factory = GpiodFactory()  # the real libgpiod
        if factory.api.chip_paths():
            pytest.skip("this machine has GPIO")
        with pytest.raises(PinUnsupported):
            LED("GPIO17", pin_factory=factory)
        factory.close()


class TestOutput:
    def test_an_output_starts_as_told_without_a_flicker(
        self, board: FakeGpiod, factory: GpiodFactory
    ) -> None:
        led = LED("GPIO22", active_high=False, pin_factory=factory)
        assert board.line("GPIO22").history == [True]
        led.close()

    def test_closing_switches_off(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        led = LED("GPIO22", pin_factory=factory)
        led.on()
        assert led.is_lit
        led.close()
        assert board.line("GPIO22").history[-1] is False
        assert not board.line("GPIO22").used

    def test_a_dimmed_lamp_is_switched_and_a_full_one_is_not(
        self, board: FakeGpiod, factory: GpiodFactory
    ) -> None:
        led = PWMLED("GPIO22", frequency=200, pin_factory=factory)
        led.value = 1
        assert board.line("GPIO22").history[-1] is True
        led.value = 0.5
        line = board.line("GPIO22")
        start = len(line.history)
        until = time.monotonic() + WAIT_S
        while len(line.history) < start + 6 and time.monotonic() < until:
            time.sleep(0.005)
        assert True in line.history[start:]
        assert False in line.history[start:]
        assert led.value == 0.5
        led.close()
        assert line.history[-1] is False

    def test_an_input_is_not_driven_or_dimmed(self, factory: GpiodFactory) -> None:
        pin = factory.pin("GPIO17")
        with pytest.raises(PinSetInput):
            pin.state = 1
        with pytest.raises(PinInvalidFunction):
            pin.frequency = 100
        with pytest.raises(PinInvalidFunction):
            pin.function = "spi"


class TestInput:
    def test_the_kernel_is_told_everything(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        edges = Edges()
        pin = factory.pin("GPIO17")
        pin.input_with_pull("up")
        pin.bounce = 0.02
        pin.when_changed = edges.take
        settings = board.line("GPIO17").settings
        assert settings.direction is Direction.INPUT
        assert settings.bias is Bias.PULL_UP
        assert settings.edge_detection is Edge.BOTH
        assert settings.debounce_period == timedelta(milliseconds=20)
        assert settings.event_clock is Clock.MONOTONIC
        pin.when_changed = None
        assert board.line("GPIO17").settings.edge_detection is Edge.NONE

    @pytest.mark.parametrize(("pull", "level"), [("up", 1), ("down", 0), ("floating", 0)])
    def test_pulls(self, factory: GpiodFactory, pull: str, level: int) -> None:
        pin = factory.pin("GPIO17")
        pin.pull = pull
        assert (pin.pull, pin.state) == (pull, level)

    def test_wrong_values(self, factory: GpiodFactory) -> None:
        pin = factory.pin("GPIO17")
        with pytest.raises(PinInvalidPull):
            pin.pull = "sideways"
        with pytest.raises(PinInvalidBounce):
            pin.bounce = -1
        with pytest.raises(PinInvalidEdges):
            pin.edges = "soft"

    def test_edges_carry_the_time_they_happened(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        edges = Edges()
        device = InputDevice("GPIO17", pull_up=True, pin_factory=factory)
        device.pin.when_changed = edges.take
        before = factory.ticks()
        board.press("GPIO17")
        after = factory.ticks()
        ticks, state = edges.next()
        assert before <= ticks <= after
        assert state == 0
        board.release("GPIO17")
        assert edges.next()[1] == 1
        device.close()

    def test_only_the_wanted_edges(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        edges = Edges()
        pin = factory.pin("GPIO17")
        pin.pull = "up"
        pin.edges = "rising"
        pin.when_changed = edges.take
        board.press("GPIO17")
        board.release("GPIO17")
        assert edges.next()[1] == 1
        assert edges.told.empty()

    def test_nothing_comes_after_the_handler_is_taken_away(
        self, board: FakeGpiod, factory: GpiodFactory
    ) -> None:
        first, second = Edges(), Edges()
        one, other = factory.pin("GPIO17"), factory.pin("GPIO27")
        one.when_changed = first.take
        other.when_changed = second.take
        one.when_changed = None
        board.put("GPIO17", True)
        board.put("GPIO27", True)
        second.next()  # the reader has been round
        assert first.told.empty()

    def test_a_line_watched_later_is_read_at_once(
        self, board: FakeGpiod, factory: GpiodFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(edge_reader, "WAIT_LIMIT_MS", 600_000)
        first, second = Edges(), Edges()
        factory.pin("GPIO17").when_changed = first.take
        board.put("GPIO17", True)
        first.next()  # the reader has been round and waits
        factory.pin("GPIO27").when_changed = second.take
        board.put("GPIO27", True)
        second.next()

    def test_a_failing_handler_does_not_end_the_others(
        self, board: FakeGpiod, factory: GpiodFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Failing:
            def take(self, ticks: float, state: int) -> None:
                raise ValueError

        failing, edges = Failing(), Edges()
        factory.pin("GPIO17").when_changed = failing.take
        factory.pin("GPIO27").when_changed = edges.take
        board.put("GPIO17", True)
        board.put("GPIO27", True)
        edges.next()
        board.put("GPIO27", False)
        edges.next()
        assert "handler failed" in caplog.text

    def test_a_handler_may_close_its_own_pin(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        closed = threading.Event()
        pin = factory.pin("GPIO17")

        class Closing:
            def take(self, ticks: float, state: int) -> None:
                pin.close()
                closed.set()

        closing = Closing()
        pin.when_changed = closing.take
        board.put("GPIO17", True)
        assert closed.wait(WAIT_S)

    def test_a_line_that_is_gone_is_given_up_and_the_others_go_on(
        self, board: FakeGpiod, factory: GpiodFactory, caplog: pytest.LogCaptureFixture
    ) -> None:
        lost, edges = Edges(), Edges()
        factory.pin("GPIO17").when_changed = lost.take
        factory.pin("GPIO27").when_changed = edges.take
        request = board.line("GPIO17").request
        assert request is not None

        def gone(max_events: int | None = None) -> Any:
            raise OSError(19, "No such device")

        request.read_edge_events = gone  # type: ignore[method-assign]
        board.put("GPIO17", True)
        for level in (True, False):
            board.put("GPIO27", level)
            edges.next()
        assert caplog.text.count("can no longer be read: OSError") == 1

    def test_a_forgotten_handler_is_not_kept_alive(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        pin = factory.pin("GPIO17")
        pin.when_changed = Edges().take
        gc.collect()
        assert pin.when_changed is None
        board.put("GPIO17", True)  # is read and goes nowhere

    def test_gpiozeros_own_button_works_on_it(self, board: FakeGpiod, factory: GpiodFactory) -> None:
        button = Button("GPIO17", bounce_time=0.02, pin_factory=factory)
        pressed, released = threading.Event(), threading.Event()
        button.when_pressed, button.when_released = pressed.set, released.set
        board.press("GPIO17")
        assert pressed.wait(WAIT_S)
        board.release("GPIO17")
        assert released.wait(WAIT_S)
        button.close()
