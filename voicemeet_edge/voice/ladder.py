"""The rungs a call may stand on: what a packet carries on each, and what that takes on the wire.

One rule: on a rung every packet has one size, and which rung it is follows the network only; so sizes and
rhythm tell an eavesdropper of the line and never of the speech.

What goes down first is redundancy, then packets get longer (at 20 ms the headers alone take 22 kb/s), then
Opus' rate. PESQ-WB of speech on each rung, and what copies are worth: docs/decisions.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from voicemeet_edge.records import dataclass

HEADER_BYTES = 56  # bytes around a payload: IPv4 20, UDP 8, RTP 12, AEAD tag 16
IPV6_BYTES = 20  # bytes more
TURN_BYTES = 4  # bytes more: the channel's header (RFC 8656 §12.4)
STREAM_BYTES = 43  # bytes more over TCP or TLS: TCP 20 for UDP's 8, with time stamps 32; a TLS record 19
COPY_HEADER_BYTES = 4  # RFC 2198 §3
LAST_HEADER_BYTES = 1  # the primary's


@dataclass(frozen=True, slots=True)
class SendPlan:
    """How to send from now on."""

    packet_bytes: int
    """Size of every RTP payload while the plan lasts."""
    fec_percent: int = 0
    """Loss the encoder is told; 0 switches in-band FEC off."""
    distances: tuple[int, ...] = ()
    """Which earlier packets' sound rides along (RFC 2198), in packets back."""
    frame_ms: int = 20
    """Sound in one packet: 20, 40, 60 or 120 ms (RFC 7587 §4.2 allows them)."""

    def frame_bytes(self, red: bool) -> int:
        """Size of one Opus frame, when wrapped in RED or not."""
        if not red:
            return self.packet_bytes
        copies = len(self.distances)
        return (self.packet_bytes - LAST_HEADER_BYTES - COPY_HEADER_BYTES * copies) // (copies + 1)

    def kbit_s(self, header_bytes: int = HEADER_BYTES) -> float:
        """Rate on the wire."""
        return (self.packet_bytes + header_bytes) * 8 / self.frame_ms


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the ladder: what is sent on a line that loses nothing, and on one that does."""

    clean: SendPlan
    lossy: SendPlan
    """Where the other side takes copies (audio/red); never more on the wire than `clean`."""


# Copies beat in-band FEC in long packets: its frames are 20 ms each, and it restores the last one only.
LADDER: tuple[Rung, ...] = (
    Rung(SendPlan(180, frame_ms=120), SendPlan(180, frame_ms=120)),  # 15.7 kb/s on the wire
    Rung(SendPlan(90, frame_ms=60), SendPlan(90, frame_ms=60)),  # 19.5
    Rung(SendPlan(120, frame_ms=60), SendPlan(120, frame_ms=60)),  # 23.5
    Rung(SendPlan(136, frame_ms=60), SendPlan(136, frame_ms=60)),  # 25.6
    Rung(SendPlan(150, frame_ms=60), SendPlan(149, 0, (1,), 60)),  # 27.5
    Rung(SendPlan(120, frame_ms=40), SendPlan(207, 0, (1,), 60)),  # 35.2
    Rung(SendPlan(140, frame_ms=40), SendPlan(139, 0, (1,), 40)),  # 39.2
    Rung(SendPlan(160, frame_ms=40), SendPlan(159, 0, (1,), 40)),  # 43.2
    Rung(SendPlan(64), SendPlan(183, 0, (1,), 40)),  # 48.0
    Rung(SendPlan(80), SendPlan(215, 0, (1,), 40)),  # 54.4
    Rung(SendPlan(116), SendPlan(287, 0, (1,), 40)),  # 68.8
)
CLEAN_BYTES = 116  # bytes a packet on the highest rung
REPORT_S = 0.25  # s between two reports of what arrived (RFC 8888)
SLOW_REPORT_S = 0.5  # s on a narrow line, where each takes a third of what one more packet would
FIRST_REPORT_S = 0.1  # s while nothing is known of the line yet
FIRST_S = 0.6  # s for which that is so
SLOW_BELOW = 10  # the rung from which on there is room for more
LOSS_BYTES = 177  # bytes a packet there while packets get lost by chance: 93.2 kb/s on the wire
TOP = len(LADDER)  # the rung above all, which is for redundancy only
START = 9  # the rung of a call that knows nothing of its line


def rates(header_bytes: int = HEADER_BYTES) -> tuple[float, ...]:
    """Return kb/s on the wire for each rung, the one for redundancy last."""
    return (*(rung.clean.kbit_s(header_bytes) for rung in LADDER), SendPlan(LOSS_BYTES).kbit_s(header_bytes))


def report_interval(age_s: float, rung: int) -> float:
    """Return s until the next report of what arrived, by the age of the call and the rung we send on."""
    if age_s < FIRST_S and rung >= START:
        return FIRST_REPORT_S
    return SLOW_REPORT_S if rung < SLOW_BELOW else REPORT_S


@dataclass(frozen=True, slots=True)
class Limits:
    """What the other side's description allows (RFC 7587 §6.1, RFC 8866 §5.8, §6.4); None: not said."""

    max_average_bitrate: int | None = None
    """bit/s of Opus."""
    max_packet_ms: int | None = None
    packet_ms: int | None = None
    """What it would like (`ptime`); a wish, not a limit."""
    bandwidth_kbit_s: float | None = None
    """`b=AS`: kb/s with IP and UDP; `b=TIAS` with the headers added."""

    def allow(self, plan: SendPlan, header_bytes: int = HEADER_BYTES) -> bool:
        """Say whether a plan keeps within them."""
        if self.max_packet_ms is not None and plan.frame_ms > max(self.max_packet_ms, 20):
            return False
        frame_bytes = plan.frame_bytes(red=bool(plan.distances))
        rate = frame_bytes * 8000 / plan.frame_ms
        if self.max_average_bitrate is not None and rate > self.max_average_bitrate:
            return False
        return self.bandwidth_kbit_s is None or plan.kbit_s(header_bytes) <= self.bandwidth_kbit_s


def allowed(limits: Limits, header_bytes: int = HEADER_BYTES) -> Sequence[int]:
    """Return the rungs a peer's limits leave, lowest first; never none: the least is always sent."""
    plans = [*(rung.clean for rung in LADDER), SendPlan(LOSS_BYTES)]
    return [number for number, plan in enumerate(plans) if limits.allow(plan, header_bytes)] or [0]
