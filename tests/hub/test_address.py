"""The machine's own address, found without sending anything."""

from __future__ import annotations

import ipaddress

from voicemeet_edge.hub.address import primary_address, resolve_auto


def test_primary_address_is_one_of_ours() -> None:
    address = ipaddress.ip_address(primary_address())
    assert address.version == 4
    assert not address.is_unspecified


def test_auto_is_resolved_and_the_rest_kept() -> None:
    assert resolve_auto("auto") == primary_address()
    assert resolve_auto("198.51.100.7") == "198.51.100.7"
