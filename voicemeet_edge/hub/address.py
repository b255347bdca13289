"""Which of this machine's addresses others reach it by; the one rule: nothing is sent to find out."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path

from voicemeet_edge.net import addresses

AUTO = "auto"


def primary_address() -> str:
    """Return the IPv4 address others reach this machine by, 127.0.0.1 while it has none."""
    return addresses.building_address() or "127.0.0.1"


def usable(address: str) -> str | None:
    """Return an IPv4 address that is this machine's now: itself, or the primary one for "auto"; or None.

    After a power cut a machine is up before its router, and a new lease may bring another address.
    """
    found = addresses.building_address() if address == AUTO else address
    if found is None:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((found, 0))
        except OSError:
            return None
    return found


def names_of(listen: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names and addresses a hub is called by, the most useful first."""
    found = list(names)
    for address in listen:
        if ipaddress.ip_address(address).is_unspecified:
            found += [primary_address(), socket.gethostname()]
        else:
            found.append(address)
    return list(dict.fromkeys(found))


def base_url(public_url: str, host: str, port: int, *, is_tls: bool) -> str:
    """Return what devices and desks call a hub."""
    shown = f"[{host}]" if ":" in host else host
    return public_url.rstrip("/") or f"{'https' if is_tls else 'http'}://{shown}:{port}"


def on_link_prefixes(table: Path = Path("/proc/net/if_inet6")) -> list[ipaddress.IPv6Network]:
    """Return the IPv6 networks this machine has an address in; blocking. Empty where there is no IPv6."""
    found: list[ipaddress.IPv6Network] = []
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        fields = line.split()  # address, interface number, prefix length, scope, flags, interface; all in hex
        try:
            network = ipaddress.IPv6Network((int(fields[0], 16), int(fields[2], 16)), strict=False)
        except (IndexError, ValueError):
            continue
        if network.prefixlen and not network.is_loopback:
            found.append(network)
    return found
