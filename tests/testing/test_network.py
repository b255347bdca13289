"""The networks made for tests do what they say: addresses, loss, outage, capture, clean-up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest

from voicemeet_edge.testing.network import (
    NAMESPACES,
    BridgedNetwork,
    ImpairedNetwork,
    Impairment,
    Network,
    unavailable,
)

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]
WAIT_S = 20.0


def sockets(network: Network, *nodes: str) -> list[socket.socket]:
    found = []
    for node in nodes:
        with network.inside(node):
            opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((network.address(node), 7000))
        opened.settimeout(WAIT_S)
        found.append(opened)
    return found


def test_packets_cross_and_are_captured() -> None:
    with ImpairedNetwork(("one", "two")) as network:
        one, two = sockets(network, "one", "two")
        with one, two:
            one.sendto(b"hello" * 100, (network.address("two"), 7000))
            data, sender = two.recvfrom(2000)
            assert (data, sender) == (b"hello" * 100, (network.address("one"), 7000))
            (packet,) = [packet for packet in network.captured() if packet.payload.startswith(b"hello")]
            assert packet.source == (network.address("one"), 7000)
            assert packet.target == (network.address("two"), 7000)
            assert packet.payload_length == 500
            assert packet.length == 528


def test_loss_bursts_and_outage() -> None:
    with ImpairedNetwork(("one", "two"), seed=3) as network:
        one, two = sockets(network, "one", "two")
        with one, two:
            target = (network.address("two"), 7000)

            def lost(impairment: Impairment, count: int) -> int:
                network.impair(impairment)
                before = network.counters()["lost"]
                taken = network.counters()["taken"]
                for _ in range(count):
                    one.sendto(b"x", target)
                deadline = time.monotonic() + WAIT_S
                while network.counters()["taken"] < taken + count and time.monotonic() < deadline:
                    time.sleep(0.01)
                return network.counters()["lost"] - before

            assert lost(Impairment(), 50) == 0
            assert 20 <= lost(Impairment(loss=0.2), 200) <= 70
            assert 10 <= lost(Impairment(loss=0.2, burst=4), 200) <= 90
            assert lost(Impairment(outage=True), 20) == 20
            assert lost(Impairment(), 50) == 0


def test_jitter_reorders_unless_told_not_to() -> None:
    for keep_order in (False, True):
        with ImpairedNetwork(
            ("one", "two"), Impairment(delay_s=0.03, jitter_s=0.01, keep_order=keep_order)
        ) as network:
            one, two = sockets(network, "one", "two")
            with one, two:
                for number in range(100):
                    one.sendto(bytes([number]), (network.address("two"), 7000))
                arrived = [two.recv(10)[0] for _ in range(100)]
            assert (arrived == sorted(arrived)) is keep_order


def test_one_way_only() -> None:
    with ImpairedNetwork(("one", "two")) as network:
        network.impair(Impairment(outage=True), source="one")
        one, two = sockets(network, "one", "two")
        with one, two:
            one.sendto(b"lost", (network.address("two"), 7000))
            two.sendto(b"kept", (network.address("one"), 7000))
            assert one.recv(10) == b"kept"
            two.setblocking(False)
            with pytest.raises(BlockingIOError):
                two.recv(10)


@pytest.mark.parametrize("kind", [ImpairedNetwork, BridgedNetwork])
def test_programs_run_inside_and_everything_goes_away(kind: type[Network]) -> None:
    with kind(("one", "two", "three")) as network:
        names = [network.namespace(node) for node in network.nodes]
        assert all((NAMESPACES / name).exists() for name in names)
        code = (
            f"import socket; print(socket.create_connection(('{network.address('three')}', 7001)) and 'met')"
        )
        with network.inside("three"):
            listener = socket.create_server((network.address("three"), 7001))
        with listener:
            child = network.popen("one", sys.executable, "-c", code, stdout=subprocess.PIPE, text=True)
            assert child.communicate(timeout=WAIT_S)[0] == "met\n"
        sleeper = network.popen("two", "sleep", "1000")
    assert sleeper.returncode is not None
    assert not any((NAMESPACES / name).exists() for name in names)
    here = f"{os.getpid():x}x"
    assert not [name for _, name in socket.if_nameindex() if here in name]
