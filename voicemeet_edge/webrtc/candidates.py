"""ICE candidates as text (RFC 8839 §5.1), and which to keep when there are more than anybody can check."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from voicemeet_edge.errors import SdpError
from voicemeet_edge.records import dataclass

MAX_CANDIDATES = 32  # kept of a description; each one costs the peer a check per address of its own
RESERVED = (
    4  # of them for each kind and address family: relays are the last by priority and the most reliable
)
MAX_CANDIDATE_CHARS = 1024  # a long one has 250
MAX_PRIORITY = 2**32 - 1
KINDS = ("host", "srflx", "prflx", "relay")

_NAME = re.compile(r"[A-Za-z0-9-]{1,63}\.local")
_FOUNDATION = re.compile(r"[A-Za-z0-9+/]{1,32}")


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """One UDP candidate of component 1."""

    foundation: str
    priority: int
    address: str
    """An IP address, or a `.local` name."""
    port: int
    kind: str

    @property
    def is_name(self) -> bool:
        """Say whether the address is an mDNS name."""
        return self.address.endswith(".local")


def write_candidate(candidate: IceCandidate) -> str:
    """Return `candidate:…` without `a=`; the related address is always blanked."""
    text = (
        f"candidate:{candidate.foundation} 1 udp {candidate.priority} "
        f"{candidate.address} {candidate.port} typ {candidate.kind}"
    )
    if candidate.kind in ("srflx", "relay"):
        text += " raddr 0.0.0.0 rport 9"
    return text


def parse_candidate(text: str) -> IceCandidate | None:
    """Read `candidate:…`; None for what we cannot use (TCP, component 2, host names, unknown kinds).

    Raises:
        SdpError: when it is not a candidate at all.
    """
    if len(text) > MAX_CANDIDATE_CHARS or not text.startswith("candidate:"):
        raise SdpError("not a candidate", code="bad_candidate")
    fields = text.removeprefix("candidate:").split()
    if len(fields) < 8 or fields[6] != "typ" or not _FOUNDATION.fullmatch(fields[0]):
        raise SdpError("malformed candidate", code="bad_candidate")
    priority, port = _number(fields[3], MAX_PRIORITY), _number(fields[5], 65535)
    component = _number(fields[1], 256)
    if component != 1 or fields[2].lower() != "udp" or port == 0 or fields[7] not in KINDS:
        return None
    address = fields[4]
    if _NAME.fullmatch(address):
        if fields[7] != "host":
            return None
    else:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return None
        if parsed.is_multicast or parsed.is_unspecified or getattr(parsed, "scope_id", None):
            return None
        address = str(parsed)
    return IceCandidate(fields[0], priority, address, port, fields[7])


def _number(text: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > limit:
        raise SdpError("a number out of range", code="bad_candidate")
    return int(text)


def best(found: Iterable[IceCandidate], limit: int = MAX_CANDIDATES) -> tuple[IceCandidate, ...]:
    """Return at most `limit` of them, in their order: by priority, but some of every kind and address family.

    A machine with forty container bridges tells forty host candidates before the relay that works.
    """
    unique = dict.fromkeys(found)
    if len(unique) <= limit:
        return tuple(unique)
    ranked = sorted(unique, key=lambda one: one.priority, reverse=True)
    places = {(one.address, one.port): one for one in reversed(ranked)}  # of one place only the best
    ranked = [one for one in ranked if places[one.address, one.port] is one]
    groups: dict[tuple[str, bool], list[IceCandidate]] = {}
    for one in ranked:
        groups.setdefault((one.kind, ":" in one.address), []).append(one)
    share = min(RESERVED, limit // max(1, len(groups)))
    kept = {one for group in groups.values() for one in group[:share]}
    kept.update([one for one in ranked if one not in kept][: limit - len(kept)])
    return tuple(one for one in unique if one in kept)
