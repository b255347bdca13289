"""A call between two emulated arm64 devices through the hub's arm64 image: three machines on one wire."""

from __future__ import annotations

import contextlib
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.image import card
from tests.image.board import VirtBoard
from tests.image.test_hub import build_hub
from tests.machine import system
from tests.machine.qemu import System
from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.testing.signals import speech_like

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

BENCH = Path(__file__).parent.parent / "machine/bench.sh"
LIMIT_S = 600.0  # of one script: three emulated machines on two cores
LOUD = 100.0  # of 32,767, effective: speech that arrives, however torn; a silent cable gives 0
HUB = '[match]\nopen_pools = ["*"]\n[turn]\nprovider = "none"\n'


class Wired(VirtBoard):
    """A board whose Ethernet is a wire with others on it, inside this machine's loopback."""

    def __init__(self, system_: System, number: int, group: str) -> None:
        super().__init__(system_, system.CACHE)
        self._wire = f"socket,id=n0,mcast={group},localaddr=127.0.0.1"
        self._mac = f"52:54:00:76:6d:{number:02x}"

    def command(self) -> list[str]:
        words = super().command()
        words[words.index("user,id=n0,restrict=on")] = self._wire
        words[words.index("virtio-net-pci,netdev=n0,romfile=")] += f",mac={self._mac}"
        return words

    def bench(self, script: str) -> str:
        return self.run(f"set -u\n. /run/bench/bench.sh\n{script}\n", limit_s=LIMIT_S).output


def group() -> str:
    """A multicast address with a port that nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"230.86.77.69:{probe.getsockname()[1]}"


def on_the_wire(made: System, number: int) -> System:
    """Give the machine on this card an address; one processor each is what two cores can carry."""
    network = f'[ethernet]\naddress = "10.77.0.{number}/24"\ngateway = "10.77.0.254"\n'
    card.put(made.disk, "network.toml", network)
    return replace(made, cpus=1, memory_mb=512)


def press_until(board: Wired, chip: str, sentence: str) -> None:
    board.bench(f"become voicemeet-edge {chip} '{sentence}'")


def test_two_devices_talk_through_the_hub(own_card: Callable[[], System], tmp_path: Path) -> None:
    wire = group()
    hub_system = build_hub("arm64", tmp_path)
    card.put(hub_system.disk, "hub.toml", HUB)
    systems = [on_the_wire(hub_system, 1)]
    for number in (2, 3):
        made = own_card()
        disk = tmp_path / f"device-{number}.img"
        made.disk.rename(disk)
        systems.append(on_the_wire(replace(made, disk=disk), number))
    with contextlib.ExitStack() as stack:
        hub, box, peer = (
            stack.enter_context(Wired(each, number, wire)) for number, each in enumerate(systems, 1)
        )
        for board in (hub, box, peer):
            shutil.copy(BENCH, board.share)
        settings = hub.bench(
            """
            until_true 300 "the hub is up" is_active voicemeet-hub
            voicemeet-edge device-settings | sed '/^\\[call\\]/,$d'
            """
        )
        assert "10.77.0.1" in settings
        for board, role in ((box, "caller"), (peer, "answerer")):
            (board.share / "backend.toml").write_text(settings)
            board.bench(
                f"""
                sound_cards
                gpio_chip box GPIO
                device_settings $BOX_SETTINGS Loopback GPIO {role}
                until_true 400 "the device is ready" says voicemeet-edge "Ready: press call"
                """
            )
        talk(box, peer)
        for name, board in (("hub", hub), ("device in a call", box)):
            print(f"{name}, 512 MB: {used(board)} MiB used")
        assert "In a call" in box.bench("status voicemeet-edge")
        for board in (box, peer, hub):
            board.power_off()


def used(board: Wired) -> str:
    words = "'/MemTotal/ {t=$2} /MemAvailable/ {a=$2} END {print int((t-a)/1024)}'"
    return board.bench(f"awk {words} /proc/meminfo").strip()


def talk(box: Wired, peer: Wired) -> None:
    """Press, answer, and hear at the peer what was said at the box."""
    write_wav(box.share / "said.wav", speech_like(5.0, seed=1))
    press_until(box, "box", "Looking\\|Ringing")
    peer.bench('until_true 120 "the peer rings" says voicemeet-edge Ringing')
    press_until(peer, "box", "Found\\|In a call")
    for board in (box, peer):
        board.bench('until_true 180 "in a call" says voicemeet-edge "In a call"')
    peer.bench("{ hear Loopback /tmp/heard.wav 40; touch /tmp/heard.all; } >/dev/null 2>&1 & disown")
    box.bench("cp /run/bench/said.wav /tmp; speak Loopback /tmp/said.wav")
    peer.bench('until_true 300 "all is heard" test -e /tmp/heard.all; cp /tmp/heard.wav /run/bench')
    samples = read_wav(peer.share / "heard.wav").astype(np.float64)
    loudness = float(np.sqrt((samples**2).mean()))
    print(f"heard at the peer: {loudness:.0f} of 32767, effective")
    assert loudness >= LOUD, "nothing is heard"
