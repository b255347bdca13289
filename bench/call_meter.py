"""What a call costs, read from outside: processes by /proc, packets by the relay, the machine by a clock.

One rule: it measures and never takes part, so that the same ruler lies beside every peer.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from voicemeet_edge.testing.network import Captured

UDP = 17
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """A process at one moment."""

    at_s: float
    cpu_s: float
    """User and system time of all its threads."""
    anonymous_kb: int
    resident_kb: int


def usage(pid: int) -> Usage:
    """Read a process' CPU time and memory."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # After the name: utime and stime are fields 14 and 15 of proc(5).
    ticks = int(fields[11]) + int(fields[12])
    memory = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        if ":" in line
    )
    return Usage(
        time.monotonic(), ticks / _TICKS, int(memory["Anonymous"].split()[0]), int(memory["Rss"].split()[0])
    )


@dataclass(frozen=True, slots=True)
class Wire:
    """What one end put on the wire."""

    kilobits_s: float
    """IP, UDP and all, RTP and RTCP."""
    sizes: tuple[tuple[int, int], ...]
    """(UDP payload of an RTP packet in bytes, how many), the most frequent first."""


def wire(packets: Sequence[Captured], address: str, start_s: float, end_s: float) -> Wire:
    """Sum up what `address` sent to its peer between two moments (seconds since the epoch)."""
    sizes: Counter[int] = Counter()
    octets = 0
    for packet in packets:
        if packet.protocol != UDP or packet.source[0] != address or not start_s <= packet.time < end_s:
            continue
        first, second = (*packet.payload[:2], 0, 0)[:2]
        if not 128 <= first < 192:  # RFC 7983 §7: not SRTP
            continue
        octets += packet.length
        if not 192 <= second <= 223:  # RFC 5761 §4: not RTCP
            sizes[packet.payload_length] += 1
    seconds = max(end_s - start_s, 1e-3)
    return Wire(octets * 8 / 1000 / seconds, tuple(sizes.most_common()))
