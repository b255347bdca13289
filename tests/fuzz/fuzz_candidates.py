"""Fuzz target of single candidates, mDNS names and ICE URLs.

Accept list: `SdpError` from `parse_candidate`; None for what cannot be used. What is taken is one
candidate that reads back as itself, and an address or a `.local` name and nothing else.
"""

from __future__ import annotations

import ipaddress

from voicemeet_edge.errors import SdpError
from voicemeet_edge.webrtc.candidates import parse_candidate, write_candidate
from voicemeet_edge.webrtc.ice_server import parse_ice_url


def fuzz_one(data: bytes) -> None:
    """Read one candidate, and the same text as a name and as a URL."""
    text = data.decode(errors="surrogateescape")
    name = text.split(" ", 1)[0]
    for line in (text, f"candidate:1 1 udp 1 {name} 5000 typ host"):
        try:
            found = parse_candidate(line)
        except SdpError:
            continue
        if found is None:
            continue
        assert 0 < found.port < 65536
        if found.is_name:
            assert found.kind == "host"
            assert found.address.isascii()
            assert found.address.count(".") == 1
        else:
            ipaddress.ip_address(found.address)
        assert parse_candidate(write_candidate(found)) == found
    url = parse_ice_url(text)
    assert url is None or (0 < url.port < 65536 and " " not in url.host and url.host.isascii())


SEEDS = (
    b"candidate:1 1 udp 2122260223 9d1a7d4c-6a30-4d0f-9f3a-0f6b2a0c1d2e.local 56789 typ host generation 0",
    b"candidate:842163049 1 udp 1686052607 203.0.113.9 56789 typ srflx raddr 0.0.0.0 rport 0",
    b"candidate:3 1 UDP 41885439 2001:db8::1 3478 typ relay raddr :: rport 9",
    b"candidate:3 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
    b"9d1a7d4c-6a30-4d0f-9f3a-0f6b2a0c1d2e.local",
    b"turn:[2001:db8::1]:3478?transport=tcp",
    b"turns:turn.example.org:443?transport=tcp",
    b"stun:192.0.2.1",
)
TOKENS = (
    *(b".local", b"xn--", b"localhost", b"..", b"%eth0", b"fe80::1%1", b"::ffff:1.2.3.4", b"0x7f.1", b"typ"),
    *(b"224.0.0.1", b"0.0.0.0", b"raddr", b"prflx", b"\xc2\xb2", b"\xd9\xa1", b"?transport=", b"turn:"),
)
