"""Which of this machine's addresses others reach it by, best first; one rule: nothing is sent to find out."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable
from pathlib import Path

import ifaddr

from voicemeet_edge.records import dataclass

# Documentation addresses (RFC 5737, RFC 3849): never routed to anybody, yet they follow the default route.
_ANYWHERE = {4: (socket.AF_INET, "192.0.2.1"), 6: (socket.AF_INET6, "2001:db8::1")}
_INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """One address of one interface."""

    text: str
    interface: str

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.text).version


def primary_address(version: int = 4) -> str | None:
    """Return the address the default route leaves from; None without such a route."""
    family, anywhere = _ANYWHERE[version]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((anywhere, 9))  # connecting a UDP socket only asks the routing table
        except OSError:
            return None
        return str(probe.getsockname()[0])


def building_address() -> str | None:
    """Return the IPv4 address others in the building reach this machine by; None while it has none.

    An intercom may have a network to itself that leads nowhere: then it is what a network card was given.
    """
    found = primary_address(4)
    return found if found is not None else given_to_hardware(*_here())


def given_to_hardware(found: Iterable[LocalAddress], hardware: Collection[str]) -> str | None:
    """Return the first IPv4 address that somebody gave to a piece of hardware; None: there is none.

    Neither a bridge of containers nor an address a card made up counts: both are there before the router.
    """
    return next((one.text for one in found if one.interface in hardware and _was_given(one)), None)


def _was_given(one: LocalAddress) -> bool:
    address = ipaddress.ip_address(one.text)
    return address.version == 4 and not (address.is_link_local or address.is_loopback)


def own_addresses(interfaces: Collection[str] = (), *, ipv6: bool = True) -> list[str]:
    """Return this machine's usable addresses, the best first; loopback only when there is nothing else.

    A machine may have forty container bridges and one network that leads anywhere, so the order counts: first
    what the default routes leave from, then network cards, then interfaces that are only software.

    Args:
        interfaces: use these only; empty: all.
        ipv6: whether IPv6 addresses count.
    """
    found, hardware = _here()
    if interfaces:
        found = [one for one in found if one.interface in interfaces]
    primary = [primary_address(4), primary_address(6)]
    return rank(
        [one for one in found if ipv6 or one.version == 4],
        primary=[text for text in primary if text is not None],
        hardware=hardware,
    )


def _here() -> tuple[list[LocalAddress], set[str]]:
    """Every address of this machine, and the names of its interfaces that are a piece of hardware."""
    found = [
        LocalAddress(ip.ip if isinstance(ip.ip, str) else ip.ip[0], adapter.name)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    ]
    return found, {one.interface for one in found if (_INTERFACES / one.interface / "device").exists()}


def rank(found: Iterable[LocalAddress], *, primary: Collection[str], hardware: Collection[str]) -> list[str]:
    """Put addresses in order; those that others cannot use are left out.

    Args:
        found: every address there is.
        primary: those the default routes leave from.
        hardware: names of interfaces that are a piece of hardware.
    """
    routes = list(primary)
    usable: list[tuple[tuple[int, bool, bool], str]] = []
    loopback: list[str] = []
    for one in found:
        address = ipaddress.ip_address(one.text)
        if address.is_loopback:
            loopback.append(one.text)
        elif not address.is_link_local or address.version == 4:
            route = routes.index(one.text) if one.text in routes else len(routes)
            place = (route, one.interface not in hardware, address.is_link_local)
            usable.append((place, one.text))
    usable.sort(key=lambda entry: entry[0])  # stable: as the kernel lists them otherwise
    # A demo on a machine without network still has to work.
    return list(dict.fromkeys([text for _, text in usable] or loopback))
