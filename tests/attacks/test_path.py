"""An eavesdropper on the path, and whoever watches a device from outside: one relay-only call, dissected.

The network is namespaces joined by a relay that writes everything down; the call is recorded once and
looked at by every test.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import re
import shutil
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.attacks.lab import Hub, Pair, hub_process, pair
from voicemeet_edge.audio.wav import write_wav
from voicemeet_edge.testing.network import Captured, ImpairedNetwork, unavailable
from voicemeet_edge.testing.signals import speech_like
from voicemeet_edge.voice.ladder import HEADER_BYTES, LADDER, LOSS_BYTES, TURN_BYTES, SendPlan

pytestmark = [
    pytest.mark.system,
    pytest.mark.namespaces,
    pytest.mark.timeout(400),
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]

PLANS = [*(plan for rung in LADDER for plan in (rung.clean, rung.lossy)), SendPlan(LOSS_BYTES)]
RUNG_SIZES = {plan.packet_bytes for plan in PLANS}
RARE = 0.2  # of all that is no voice
AROUND_BYTES = HEADER_BYTES + TURN_BYTES  # of a packet in a channel of the relay
STRETCH_S = 20.0  # s of talking, and then of silence
FULL_STRETCH_S = 60.0
RATE = 48_000
EDGE_S = 1.0  # s around the change that belong to neither stretch
UDP, TCP = 17, 6


@dataclass(frozen=True)
class Voice:
    """One RTP packet as it is read from outside."""

    time: float
    size: int
    first: int
    payload_type: int
    sequence: int
    timestamp: int


@dataclass(frozen=True)
class Evidence:
    """What was seen from outside."""

    packets: list[Captured]
    addresses: dict[str, str]
    turn: tuple[str, int]
    hub: tuple[str, int]
    sockets: dict[str, set[str]]
    """Remote ends of all sockets of each device, from /proc."""
    talking: dict[str, tuple[float, float]]
    """By device: from when to when it was spoken into, on the clock of the capture."""
    silent: dict[str, tuple[float, float]]

    def voice(self, node: str) -> list[Voice]:
        """What a device sent to the relay: RTP inside ChannelData (RFC 8656 section 12.4)."""
        sent = []
        for packet in self.packets:
            data = packet.payload
            from_node = packet.source[0] == self.addresses[node] and packet.target == self.turn
            if packet.protocol != UDP or not from_node or not 0x40 <= data[0] < 0x50:
                continue
            inner = data[4:]
            if inner[0] >> 6 == 2 and not 192 <= inner[1] <= 223:
                numbers = int.from_bytes(inner[2:4], "big"), int.from_bytes(inner[4:8], "big")
                sent.append(Voice(packet.time, packet.length, inner[0], inner[1] & 0x7F, *numbers))
        return sent


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Evidence:
    if shutil.which("turnserver", path="/usr/bin:/usr/sbin") is None:
        pytest.skip("the Debian package coturn is missing")
    directory = tmp_path_factory.mktemp("path")
    stretch_s = FULL_STRETCH_S if request.config.getoption("--full", default=False) else STRETCH_S
    with ImpairedNetwork(("hub", "a", "b")) as network:
        prefix = network.command("hub")
        with hub_process(directory, network.address("hub"), prefix) as hub:
            return asyncio.run(_record(network, hub, directory, stretch_s))


async def _record(network: ImpairedNetwork, hub: Hub, directory: Path, stretch_s: float) -> Evidence:
    speech = directory / "speech-then-silence.wav"
    spoken = speech_like(stretch_s, seed=3, pitch_hz=130.0)
    await asyncio.to_thread(write_wav, speech, np.concatenate([spoken, np.zeros_like(spoken)]))
    sound = {"virtual_in": str(speech)}
    prefixes = network.command("a"), network.command("b")
    ice = {"addresses": [], "ipv6": True}  # everything there is: the policy alone has to hold back
    async with pair(hub, directory, carried=False, prefixes=prefixes, audio=sound, ice=ice) as devices:
        await devices.call()
        await asyncio.sleep(2 * stretch_s)
        sockets = {name: _remote_ends(devices, name) for name in ("a", "b")}
        said_at = {one.name: float((await one.stats())["said_at"][-1]) for one in devices.both}
        await devices.hang_up()
    to_epoch = time.time() - time.monotonic()
    talking, silent = {}, {}
    for name, at in said_at.items():
        began, changed = at + to_epoch + EDGE_S, at + to_epoch + stretch_s
        talking[name] = began, changed - EDGE_S
        silent[name] = changed + EDGE_S, changed + stretch_s - EDGE_S
    addresses = {node: network.address(node) for node in ("hub", "a", "b")}
    match = re.search(r":(\d+)$", hub.url)
    assert match is not None
    packets = await asyncio.to_thread(network.captured)
    turn = hub.turn.host, hub.turn.port
    return Evidence(packets, addresses, turn, (turn[0], int(match[1])), sockets, talking, silent)


def _remote_ends(devices: Pair, name: str) -> set[str]:
    """Remote ends of every internet socket in the namespace of a device (proc(5), /proc/pid/net)."""
    device = devices.first if name == "a" else devices.second
    found = set()
    for kind in ("udp", "tcp", "udp6", "tcp6"):
        for line in Path(f"/proc/{device.pid}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            state = int(fields[3], 16)
            if kind.startswith("tcp") and state == 6:
                continue  # TIME_WAIT: closed before
            found.add(f"{kind} {_end(fields[2])}")
    return found


def _end(text: str) -> str:
    address, port = text.split(":")
    raw = bytes.fromhex(address)[::-1]
    return f"{'.'.join(map(str, raw)) if len(raw) == 4 else raw.hex()}:{int(port, 16)}"


def within(packets: Iterable[Voice], span: tuple[float, float]) -> list[Voice]:
    return [packet for packet in packets if span[0] <= packet.time < span[1]]


@pytest.mark.parametrize("node", ["a", "b"])
def test_talking_and_silence_look_the_same(evidence: Evidence, node: str) -> None:
    # Fails with variable bit rate, or with DTX (voice/opus.py, OpusEncoder).
    voice = evidence.voice(node)
    talking, silent = (within(voice, span[node]) for span in (evidence.talking, evidence.silent))
    assert len(talking) > 500
    # Which rung of the ladder is sent follows the line (voice/ladder.py), and each rung has one size.
    assert {packet.size - AROUND_BYTES for packet in voice} <= RUNG_SIZES, "no size but a rung's"
    sizes = [statistics.mode(packet.size for packet in stretch) for stretch in (talking, silent)]
    assert sizes[0] == sizes[1]
    # And one length of sound: what follows a packet on the sender's clock is that or, of a pair, itself.
    for size, steps_of_size in _steps_by_size(talking + silent).items():
        rungs = {plan.frame_ms * 48 for plan in PLANS if plan.packet_bytes == size - AROUND_BYTES}
        assert statistics.mode(steps_of_size) in rungs
    for stretch in (talking, silent):
        numbers = [packet.sequence for packet in sorted(stretch, key=lambda one: one.timestamp)]
        assert all((after - before) & 0xFFFF == 1 for before, after in itertools.pairwise(numbers))
    # One rhythm: what the sender's clock says, and when the packets came (a machine that stands still
    # delays some of either stretch, so the middle is compared and not the ends).
    # On the rung that both stretches stood on: a machine that stands still looks like a line that does.
    steps = [_steps(stretch) for stretch in (talking, silent)]
    assert statistics.mode(steps[0]) == statistics.mode(steps[1])
    gaps = [_median_gap(stretch, sizes[0]) for stretch in (talking, silent)]
    assert gaps[0] == pytest.approx(gaps[1], rel=0.1)


def _steps(stretch: list[Voice]) -> list[int]:
    marks = sorted(packet.timestamp for packet in stretch)
    return [after - before for before, after in itertools.pairwise(marks)]


def _steps_by_size(stretch: list[Voice]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for before, after in itertools.pairwise(sorted(stretch, key=lambda one: (one.timestamp, one.sequence))):
        if before.timestamp != after.timestamp:
            found.setdefault(before.size, []).append(after.timestamp - before.timestamp)
    return found


def _median_gap(stretch: list[Voice], size: int) -> float:
    return statistics.median(
        after.time - before.time
        for before, after in itertools.pairwise(stretch)
        if before.size == after.size == size and before.timestamp != after.timestamp
    )


@pytest.mark.parametrize("node", ["a", "b"])
def test_no_packet_has_a_header_extension(evidence: Evidence, node: str) -> None:
    # Fails when pack_rtp sets the X bit (webrtc/rtp.py).
    voice = evidence.voice(node)
    assert {packet.first for packet in voice} == {0x80}  # version 2; no padding, extension or CSRC


@pytest.mark.parametrize("node", ["a", "b"])
def test_everything_else_is_the_same_in_both_stretches(evidence: Evidence, node: str) -> None:
    """Reports and checks: their sizes do not tell speech from silence either.

    What is rare is left out: a report after the machine stood still tells of more packets than others.
    """
    usual: list[set[int]] = []
    seen: list[set[int]] = []
    for start, end in (evidence.talking[node], evidence.silent[node]):
        sizes = collections.Counter(
            packet.length
            for packet in evidence.packets
            if packet.source[0] == evidence.addresses[node]
            and packet.protocol == UDP
            and start <= packet.time < end
            and 0x40 <= packet.payload[0] < 0x50
            and not (128 <= packet.payload[4] < 192 and not 192 <= packet.payload[5] <= 223)  # voice
        )
        seen.append(set(sizes))
        usual.append({size for size, count in sizes.items() if count > RARE * sizes.total()})
    assert usual[0] <= seen[1]
    assert usual[1] <= seen[0]


@pytest.mark.parametrize("node", ["a", "b"])
def test_a_relay_only_device_touches_nothing_but_hub_and_relay(evidence: Evidence, node: str) -> None:
    # Fails with policy "direct" in the devices' settings.
    own = evidence.addresses[node]
    ends = {packet.target for packet in evidence.packets if packet.source[0] == own}
    ends |= {packet.source for packet in evidence.packets if packet.target[0] == own}
    assert ends == {evidence.hub, evidence.turn}
    named = {
        f"{kind} {host}:{port}" for kind, (host, port) in (("udp", evidence.turn), ("tcp", evidence.hub))
    }
    assert evidence.sockets[node] <= named
    assert named & evidence.sockets[node] == named


def test_the_ends_never_meet(evidence: Evidence) -> None:
    ends = {evidence.addresses["a"], evidence.addresses["b"]}
    assert not [packet for packet in evidence.packets if {packet.source[0], packet.target[0]} == ends]
