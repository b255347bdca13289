"""The machine's own address, found without sending anything."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from voicemeet_edge.hub.address import on_link_prefixes, primary_address, usable
from voicemeet_edge.hub.limits import address_key


def test_primary_address_is_one_of_ours() -> None:
    address = ipaddress.ip_address(primary_address())
    assert address.version == 4
    assert not address.is_unspecified


def test_only_what_is_this_machines_now_is_usable() -> None:
    assert usable("auto") in (primary_address(), None)
    assert usable("127.0.0.1") == "127.0.0.1"
    assert usable("0.0.0.0") == "0.0.0.0"
    assert usable("198.51.100.7") is None


def test_on_our_own_links_each_ipv6_address_is_somebody_else(tmp_path: Path) -> None:
    # Fails when a /64 is one requester everywhere: then one neighbour locks a whole LAN out.
    table = tmp_path / "if_inet6"
    table.write_text(
        "20010db8000100020000000000000005 02 40 00 00 eth0\n"
        "fe800000000000000000000000000001 02 40 20 80 eth0\n"
        "00000000000000000000000000000001 01 80 10 80 lo\nnonsense\n"
    )
    on_link = on_link_prefixes(table)
    assert ipaddress.IPv6Network("2001:db8:1:2::/64") in on_link
    assert on_link_prefixes(tmp_path / "missing") == []
    one, other = (address_key(f"2001:db8:1:2::{host}", on_link) for host in ("7", "8"))
    assert one != other
    assert address_key(one, on_link) == address_key(one) == one, "a key stays what it is"
    assert address_key("2001:db8:9:9::1", on_link) == address_key("2001:db8:9:9:ffff::2", on_link)
    assert address_key("fe80::1%eth0") != address_key("fe80::2%eth0")
