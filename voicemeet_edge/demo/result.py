"""What a judged call says: both directions, and the table a person reads."""

from __future__ import annotations

from collections.abc import Mapping

from voicemeet_edge.demo.judge import Judgement
from voicemeet_edge.records import dataclass


@dataclass(frozen=True)
class Direction:
    """One way through the call, judged."""

    name: str
    verdict: Judgement
    said_at: float
    """When the first sample of the speech was said, seconds, monotonic."""
    press_to_audio_s: float
    loss: float
    kilobits: float
    """On the wire, headers included, thousands of bits per second."""


@dataclass(frozen=True)
class Result:
    """The whole call."""

    directions: tuple[Direction, ...]
    path: str
    """`host` or `relay`."""
    profile: str
    """How SRTP encrypts."""
    words: str
    """The check words."""

    @property
    def arrived(self) -> bool:
        """Whether both ends heard the right speech."""
        return all(direction.verdict.arrived for direction in self.directions)


def wire_kilobits(media: Mapping[str, int], seconds: float) -> float:
    """Bits per second on the wire in thousands: RTP and SRTP as counted, plus UDP and IPv4 headers."""
    headers = 28 * int(media["packets_sent"])  # 8 (RFC 768) and 20 (RFC 791) bytes
    return (int(media["bytes_sent"]) + headers) * 8 / seconds / 1000 if seconds > 0 else 0.0


def table(result: Result) -> str:
    """The figures of the call, as a person reads them."""
    head = ("direction", "heard", "match", "press to audio", "delay p50", "delay p95", "lost", "on the wire")
    rows = [head]
    for one in result.directions:
        p50, p95 = one.verdict.delay_ms(0.5), one.verdict.delay_ms(0.95)
        rows.append(
            (
                one.name,
                f"{one.verdict.share:.0%} of {len(one.verdict.segments)}",
                f"{one.verdict.correlation:.2f}",
                f"{one.press_to_audio_s * 1000:.0f} ms",
                "–" if p50 is None else f"{p50:.0f} ms",
                "–" if p95 is None else f"{p95:.0f} ms",
                f"{one.loss:.1%}",
                f"{one.kilobits:.0f} kb/s",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append(f"\npath: {result.path} · encryption: {result.profile} · check words: {result.words}")
    return "\n".join(lines)
