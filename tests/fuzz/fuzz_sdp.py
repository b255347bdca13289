"""Fuzz target of the session descriptions.

Accept list: `SdpError`. What is taken must be safe to answer: the answer we would write reads back, and
says nothing but what we chose.
"""

from __future__ import annotations

import re

from voicemeet_edge.choices import IcePolicy
from voicemeet_edge.errors import SdpError
from voicemeet_edge.testing.descriptions import leaks
from voicemeet_edge.webrtc.candidates import MAX_CANDIDATES
from voicemeet_edge.webrtc.sdp import LocalDescription, parse, write

FINGERPRINT = ":".join(["AB"] * 32)


def _answer(offer: str) -> str | None:
    try:
        remote = parse(offer)
    except SdpError:
        return None
    assert remote.fingerprints
    assert len(remote.candidates) <= MAX_CANDIDATES
    local = LocalDescription(7, "ufrag", "p" * 22, FINGERPRINT, "active", 99, "name", (), True, remote)
    return write(local)


def fuzz_one(data: bytes) -> None:
    """Read one description, answer it, read the answer."""
    answer = _answer(data.decode(errors="surrogateescape"))
    if answer is None:
        return
    assert "\n" not in answer.replace("\r\n", ""), "a line of the offer broke out of its place"
    # The names of rejected lines are the peer's own words, given back to it: they may look like anything.
    ours = re.sub(r"m=.*\r\n|a=mid:.*\r\n|a=group:.*\r\n", "", answer)
    assert leaks(ours, IcePolicy.RELAY) == []
    parse(answer)


_HEAD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
_AUDIO = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 0\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n"
    "a=candidate:1 1 udp 2122260223 9d1a7d4c-6a30-4d0f-9f3a-0f6b2a0c1d2e.local 56789 typ host\r\n"
    "a=candidate:2 1 udp 1686052607 203.0.113.9 56789 typ srflx raddr 0.0.0.0 rport 0\r\n"
    "a=candidate:3 1 tcp 1518280447 2001:db8::1 9 typ host tcptype active\r\n"
    "a=ice-ufrag:Zb4/\r\na=ice-pwd:0123456789abcdefABCDEF+/\r\na=ice-options:trickle\r\n"
    f"a=fingerprint:sha-256 {FINGERPRINT}\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n"
    "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"
    "a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:0 PCMU/8000\r\na=ssrc:1 cname:x\r\n"
)
_REJECTED = "m=video 0 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\na=inactive\r\n"

SEEDS = (
    (_HEAD + _AUDIO).encode(),
    (_HEAD + _REJECTED + _AUDIO).encode(),
    (_HEAD + _AUDIO + _REJECTED).encode(),
)
TOKENS = (
    *(
        b"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n",
        b"m=video 0 RTP/AVP 96\r\n",
        b"a=mid:",
        b"a=setup:holdconn\r\n",
    ),
    *(
        b"a=fingerprint:sha-1 AB\r\n",
        b"a=fingerprint:sha-512 ",
        b"a=ice-lite\r\n",
        b"a=end-of-candidates\r\n",
    ),
    *(b"a=inactive\r\n", b"a=rtpmap:64 opus/48000/2\r\n", b"opus/48000/2", b"RTP/AVP", b"127.0.0.1", b"::1"),
)
