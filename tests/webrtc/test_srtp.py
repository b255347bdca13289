"""What one end encrypts the other reads, and what does not authenticate is None."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pylibsrtp
import pytest

from voicemeet_edge.webrtc.dtls import EdgeDtls
from voicemeet_edge.webrtc.srtp import Srtp

RTP = bytes([0x80, 96, 0, 1]) + bytes(8) + b"a frame of sound"
RTCP = bytes([0x80, 201, 0, 1, 0, 0, 0, 7])


def session(key: bytes, kind: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(pylibsrtp.Policy(key=key, ssrc_type=kind))


def end(sends: bytes, receives: bytes) -> Srtp:
    sessions = SimpleNamespace(
        _tx_srtp=session(sends, pylibsrtp.Policy.SSRC_ANY_OUTBOUND),
        _rx_srtp=session(receives, pylibsrtp.Policy.SSRC_ANY_INBOUND),
    )
    return Srtp(cast("EdgeDtls", sessions))


@pytest.fixture
def ends() -> tuple[Srtp, Srtp]:
    one, other = bytes(range(30)), bytes(range(30, 60))
    return end(one, other), end(other, one)


def test_each_reads_the_other(ends: tuple[Srtp, Srtp]) -> None:
    for sender, receiver in (ends, ends[::-1]):
        packet = sender.protect(RTP)
        assert RTP[12:] not in packet
        assert receiver.unprotect(packet) == RTP
        assert receiver.unprotect_rtcp(sender.protect_rtcp(RTCP)) == RTCP


def test_a_packet_is_taken_once(ends: tuple[Srtp, Srtp]) -> None:
    sender, receiver = ends
    packet = sender.protect(RTP)
    assert receiver.unprotect(packet) == RTP
    assert receiver.unprotect(packet) is None


@pytest.mark.parametrize(
    "spoil", [lambda p: p[:-1] + bytes([p[-1] ^ 1]), lambda p: p[:8], lambda _: b"", lambda p: p * 99]
)
def test_what_does_not_authenticate_is_none(ends: tuple[Srtp, Srtp], spoil: object) -> None:
    sender, receiver = ends
    assert callable(spoil)
    assert receiver.unprotect(spoil(sender.protect(RTP))) is None
    assert receiver.unprotect_rtcp(spoil(sender.protect_rtcp(RTCP))) is None
    assert receiver.unprotect(sender.protect(RTP[:3] + b"\2" + RTP[4:])) is not None, "and it goes on"
