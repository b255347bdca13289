"""Which of this machine's addresses others reach it by; the one rule: nothing is sent to find out."""

from __future__ import annotations

import socket

# RFC 5737 TEST-NET-1: never routed to anybody, yet it follows the default route like any other.
_ANYWHERE = ("192.0.2.1", 9)
AUTO = "auto"


def primary_address() -> str:
    """Return the IPv4 address the default route leaves from, 127.0.0.1 without one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a UDP socket only asks the routing table.
            probe.connect(_ANYWHERE)
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def resolve_auto(address: str) -> str:
    """Return the address itself, or the primary one for "auto"."""
    return primary_address() if address == AUTO else address
