"""Fuzz target of the playout: any packets in any order at any time.

Accept list: nothing; every pull gives one period of sound whatever was pushed. The input is a list of
commands: how many pulls, which packet, how far its numbers are off.
"""

from __future__ import annotations

from tests.fuzz.fuzz_opus import SEEDS as FRAMES
from tests.fuzz.fuzz_rtp import SEEDS as DATAGRAMS
from voicemeet_edge.voice.format import PERIOD_SAMPLES
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout

MAX_COMMANDS = 24  # in one input; a period costs more than anything else here
COMMAND_BYTES = 6
_NEAR = 0x3F  # most numbers are near what is expected, or nothing would ever be played


def fuzz_one(data: bytes) -> None:
    """Push and pull as the input says."""
    playout = Playout()
    now, sequence, timestamp = 100.0, 0, 0
    for at in range(0, min(len(data), MAX_COMMANDS * COMMAND_BYTES) - COMMAND_BYTES + 1, COMMAND_BYTES):
        kind, pick, off, far, wait, pulls = data[at : at + COMMAND_BYTES]
        sequence += 1 + (off if kind & 1 else 0)
        timestamp += 960 * (off & _NEAR if kind & 1 else 1) + (far << 24 if kind & 2 else 0)
        payload = data[at:] if kind & 4 else FRAMES[pick % len(FRAMES)]
        if kind & 8:
            payload = DATAGRAMS[pick % len(DATAGRAMS)]
        now += wait / 255 / (1 if kind & 16 else 20)
        ssrc = 1 + (kind >> 7)
        packet = RtpAudio(sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, payload, now, red=bool(kind & 32))
        playout.push(packet, now + (off - 128 if kind & 64 else 0))
        for _ in range(pulls % 5):
            assert len(playout.pull(now)) == PERIOD_SAMPLES
            now += 0.01
    assert playout.stats.received <= MAX_COMMANDS


SEEDS = (
    bytes((0, 1, 0, 0, 40, 2)) * 20,
    bytes((0, 1, 0, 0, 200, 4)) * 12 + bytes((1, 2, 5, 0, 0, 1)) * 8,
    bytes((2, 1, 0, 128, 40, 2)) * 10 + bytes((128, 3, 0, 0, 40, 2)) * 10,
    bytes((40, 5, 0, 0, 40, 2)) * 10,
)
TOKENS = (bytes((16, 0, 0, 0, 255, 4)), bytes((64, 1, 255, 0, 0, 0)), bytes((1, 1, 63, 0, 0, 2)))
