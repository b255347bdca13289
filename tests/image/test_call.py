"""A call between two emulated devices through the hub's image: three machines on one wire."""

from __future__ import annotations

import contextlib
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.image import card
from tests.image.board import VirtBoard
from tests.image.builder import MEMORY_MB, build, flash
from tests.machine import system
from tests.machine.qemu import Machine, System
from voicemeet_edge.audio.wav import read_wav, write_wav
from voicemeet_edge.testing.signals import speech_like

pytestmark = [pytest.mark.machine, pytest.mark.timeout(3600)]

BENCH = Path(__file__).parent.parent / "machine/bench.sh"
LIMIT_S = 1500.0  # of one script: three emulated machines on two cores
IN_A_CALL_MB = 160  # used by the whole device in a call
LOUD = 100.0  # of 32,767, effective: speech that arrives, however torn; a silent cable gives 0
HUB = """state_dir = "/var/lib/voicemeet-hub"
[http]
listen = ["0.0.0.0"]
[match]
open_pools = ["*"]
[turn]
provider = "off"
"""


class Wire:
    """One Ethernet for the machines of a test, inside this machine's loopback."""

    def __init__(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # a port nobody has at the moment
            probe.bind(("127.0.0.1", 0))
            self._group = f"230.86.77.69:{probe.getsockname()[1]}"

    def plug(self, command: list[str], number: int) -> list[str]:
        """The command of QEMU, with the card on this wire instead of a network of its own."""
        words = list(command)
        words[words.index("user,id=n0,restrict=on")] = f"socket,id=n0,mcast={self._group},localaddr=127.0.0.1"
        card_at = next(n for n, word in enumerate(words) if word.startswith("virtio-net-pci"))
        words[card_at] += f",mac=52:54:00:76:6d:{number:02x}"
        return words


class WiredMachine(Machine):
    """An amd64 machine on the wire."""

    def __init__(self, made: System, wire: Wire, number: int) -> None:
        super().__init__(made)
        self._wire, self._number = wire, number

    def command(self) -> list[str]:
        return self._wire.plug(super().command(), self._number)


class WiredBoard(VirtBoard):
    """An arm64 board on the wire."""

    def __init__(self, made: System, wire: Wire, number: int) -> None:
        super().__init__(made, system.CACHE)
        self._wire, self._number = wire, number

    def command(self) -> list[str]:
        return self._wire.plug(super().command(), self._number)


KINDS = {"amd64": WiredMachine, "arm64": WiredBoard}


def bench(machine: Machine, script: str) -> str:
    return machine.run(f"set -u\n. /run/bench/bench.sh\n{script}\n", limit_s=LIMIT_S).output


def on_the_wire(made: System, number: int) -> System:
    """Give the machine on this card an address; one processor each is what two cores can carry."""
    network = f'[ethernet]\naddress = "10.77.0.{number}/24"\ngateway = "10.77.0.254"\n'
    card.put(made.disk, "network.toml", network)
    return replace(made, cpus=1)


def press_until(machine: Machine, sentence: str) -> None:
    bench(machine, f"become voicemeet-edge box '{sentence}'")


@pytest.mark.parametrize("arch", sorted(KINDS))
def test_two_devices_talk_through_the_hub(arch: str, tmp_path: Path) -> None:
    wire, kind = Wire(), KINDS[arch]
    made = {role: build(arch, role) for role in ("hub", "device")}
    systems = []
    for number, role in enumerate(("hub", "device", "device"), 1):
        systems.append(on_the_wire(flash(made[role], tmp_path / f"{number}.img"), number))
    card.put(systems[0].disk, "hub.toml", HUB)
    with contextlib.ExitStack() as stack:
        hub, box, peer = (
            stack.enter_context(kind(each, wire, number)) for number, each in enumerate(systems, 1)
        )
        for machine in (hub, box, peer):
            shutil.copy(BENCH, machine.share)
        settings = bench(
            hub,
            """
            until_true 300 "the hub is up" is_active voicemeet-hub
            grep -q open_pools /etc/voicemeet/hub.toml || fail "$(cat /boot/firmware/voicemeet-status.txt)"
            voicemeet-edge device-settings | sed '/^\\[call\\]/,$d'
            """,
        )
        assert "10.77.0.1" in settings
        for machine, role in ((box, "caller"), (peer, "answerer")):
            (machine.share / "backend.toml").write_text(settings)
            bench(
                machine,
                f"""
                sound_cards
                gpio_chip box GPIO
                device_settings $BOX_SETTINGS Loopback GPIO {role}
                until_true 400 "the device is ready" says voicemeet-edge "Ready: press call"
                """,
            )
        talk(box, peer)
        assert "In a call" in bench(box, "status voicemeet-edge")
        memory = {name: used(machine) for name, machine in (("hub", hub), ("device", box))}
        print(f"{arch}, in a call: hub {memory['hub']} MiB, device {memory['device']} MiB of {MEMORY_MB}")
        for machine in (box, peer, hub):
            machine.power_off()
    assert memory["device"] <= IN_A_CALL_MB


def used(machine: Machine) -> int:
    words = "'/MemTotal/ {t=$2} /MemAvailable/ {a=$2} END {print int((t-a)/1024)}'"
    return int(bench(machine, f"awk {words} /proc/meminfo"))


def talk(box: Machine, peer: Machine) -> None:
    """Press, answer, and hear at the peer what was said at the box."""
    write_wav(box.share / "said.wav", speech_like(5.0, seed=1))
    press_until(box, "Looking\\|Ringing")
    bench(peer, 'until_true 120 "the peer rings" says voicemeet-edge Ringing')
    press_until(peer, "Found\\|In a call")
    for machine in (box, peer):
        bench(machine, 'until_true 180 "in a call" says voicemeet-edge "In a call"')
    bench(peer, "{ hear Loopback /tmp/heard.wav 40; touch /tmp/heard.all; } >/dev/null 2>&1 & disown")
    bench(box, "cp /run/bench/said.wav /tmp; speak Loopback /tmp/said.wav")
    bench(peer, 'until_true 300 "all is heard" test -e /tmp/heard.all; cp /tmp/heard.wav /run/bench')
    samples = read_wav(peer.share / "heard.wav").astype(np.float64)
    loudness = float(np.sqrt((samples**2).mean()))
    print(f"heard at the peer: {loudness:.0f} of 32767, effective")
    assert loudness >= LOUD, "nothing is heard"
