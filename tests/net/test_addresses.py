"""The best address first, whatever order the kernel lists them in."""

from __future__ import annotations

import ipaddress

from voicemeet_edge.net.addresses import LocalAddress, given_to_hardware, own_addresses, primary_address, rank

ETHERNET = LocalAddress("10.0.0.5", "eth0")
BRIDGES = [LocalAddress(f"172.{17 + n}.0.1", f"br-{n}") for n in range(40)]
SIX = LocalAddress("2001:db8::5", "eth0")


def test_the_default_routes_address_comes_first() -> None:
    order = rank([*BRIDGES, ETHERNET, SIX], primary=["172.30.0.1", "2001:db8::5"], hardware={"eth0"})
    assert order[:3] == ["172.30.0.1", "2001:db8::5", "10.0.0.5"]
    assert len(order) == 42


def test_hardware_comes_before_software_and_what_was_assigned_before_what_was_made_up() -> None:
    made_up = LocalAddress("169.254.7.7", "wlan0")
    order = rank([*BRIDGES[:2], made_up, ETHERNET], primary=[], hardware={"eth0", "wlan0"})
    assert order == ["10.0.0.5", "169.254.7.7", "172.17.0.1", "172.18.0.1"]


def test_what_others_cannot_use_is_left_out_unless_there_is_nothing_else() -> None:
    alone = [LocalAddress("127.0.0.1", "lo"), LocalAddress("::1", "lo"), LocalAddress("fe80::1", "eth0")]
    assert rank([*alone, ETHERNET], primary=[], hardware=()) == ["10.0.0.5"]
    assert rank(alone, primary=[], hardware=()) == ["127.0.0.1", "::1"]
    assert rank([], primary=[], hardware=()) == []


def test_this_machines_addresses() -> None:
    primary = primary_address()
    assert primary is None or own_addresses()[0] == primary
    assert all(ipaddress.ip_address(text).version == 4 for text in own_addresses(ipv6=False))
    assert own_addresses(["lo"], ipv6=False) == ["127.0.0.1"]
    assert own_addresses(["no-such-interface"]) == []


def test_a_network_that_leads_nowhere_has_the_address_its_card_was_given() -> None:
    made_up, loop = LocalAddress("169.254.7.7", "wlan0"), LocalAddress("127.0.0.1", "lo")
    before_the_router = [loop, *BRIDGES, made_up, SIX]
    assert given_to_hardware(before_the_router, {"eth0", "wlan0"}) is None
    assert given_to_hardware([*before_the_router, ETHERNET], {"eth0", "wlan0"}) == "10.0.0.5"
