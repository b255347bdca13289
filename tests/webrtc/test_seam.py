"""The contract with aiortc's insides: when one of these fails, aiortc changed; read seam.py again.

Every private thing `webrtc/seam.py`, `ice.py` and `turn.py` rely on is named here.
"""

from __future__ import annotations

import inspect

import aioice
import aiortc
from aioice import stun, turn
from aioice.ice import StunProtocol
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport, State
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceTransport
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.webrtc import seam
from voicemeet_edge.webrtc.ice import EdgeStunProtocol, IceConnection
from voicemeet_edge.webrtc.options import PeerOptions


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def test_the_version_is_the_one_this_was_written_for() -> None:
    assert aiortc.__version__.startswith(seam.SUPPORTED)
    assert aioice.__version__.startswith("0.13."), "ice.py and turn.py were written for aioice 0.13"


async def test_the_dtls_transport_is_as_the_seam_expects() -> None:
    transport = seam.make_ice_transport(IceConnection(PeerOptions(), controlling=True))
    dtls = seam.EdgeDtls(transport, seam.EdgeCertificate.generateCertificate())
    for name in ("_ssl", "_role", "_state", "_task", "_rx_srtp", "_tx_srtp", "encrypted", "_set_state"):
        assert hasattr(dtls, name), name
    for name in ("_do_handshake", "_recv_next", "_write_ssl", "_validate_peer_identity", "_setup_srtp"):
        assert inspect.iscoroutinefunction(getattr(RTCDtlsTransport, name)) is (
            name in ("_do_handshake", "_recv_next", "_write_ssl")
        ), name
    start = source(RTCDtlsTransport.start)
    steps = ["_do_handshake", "_validate_peer_identity", "_setup_srtp", "State.CONNECTED", "__run"]
    assert [start.index(step) for step in steps] == sorted(start.index(step) for step in steps)
    assert "_create_ssl_context" in start
    assert "self._recv_next()" in inspect.getsource(RTCDtlsTransport).split("async def __run")[1]
    assert {state.name for state in State} == {"NEW", "CONNECTING", "CONNECTED", "CLOSED", "FAILED"}
    await transport.stop()


def test_the_certificate_is_as_the_seam_expects() -> None:
    certificate = seam.EdgeCertificate.generateCertificate()
    assert isinstance(certificate, RTCCertificate)
    assert list(inspect.signature(RTCCertificate._create_ssl_context).parameters) == ["self", "srtp_profiles"]
    assert certificate.sha256 == certificate.getFingerprints()[0].value
    other = seam.EdgeCertificate.generateCertificate()
    assert not certificate.matches(certificate._cert)  # nothing was promised yet
    certificate.expected = (("sha-256", other.sha256),)
    assert certificate.matches(other._cert)
    assert not certificate.matches(certificate._cert)


def test_the_ice_transport_takes_our_connection() -> None:
    assert "gatherer._connection" in source(RTCIceTransport.__init__)
    assert "self._connection = Connection(" in source(RTCIceGatherer.__init__)


def test_aioice_is_as_our_subclasses_expect() -> None:
    connection = source(aioice.Connection)
    for name in (
        "_local_candidates_start", "_local_candidates_end", "_local_candidates", "_protocols", "_closing",
        "_remote_candidates_end", "_remote_candidates", "_nominated", "_queue",
    ):  # fmt: skip
        assert f"self.{name}" in connection, name
    for mine, theirs in (
        (IceConnection.check_incoming, aioice.Connection.check_incoming),
        (IceConnection.check_complete, aioice.Connection.check_complete),
        (IceConnection.data_received, aioice.Connection.data_received),
        (EdgeStunProtocol.datagram_received, StunProtocol.datagram_received),
        (EdgeStunProtocol.request, StunProtocol.request),
    ):
        assert list(inspect.signature(mine).parameters) == list(inspect.signature(theirs).parameters)
    client = source(turn.TurnClientMixin)
    for name in ("peer_to_channel", "channel_refresh_at", "peer_connect_waiters", "refresh_task"):
        assert f"self.{name}" in client, name
    assert "_connect" in source(turn.TurnTransport)
    assert list(inspect.signature(stun.Transaction.response_received).parameters) == [
        "self",
        "message",
        "addr",
    ]


def test_libraries_keep_addresses_out_of_the_log() -> None:
    import logging

    for name in ("aioice", "aiortc"):
        assert not logging.getLogger(f"{name}.ice").isEnabledFor(logging.INFO)


@given(st.integers(1, 40), st.integers(0, 700))
def test_records_are_packed_whole(count: int, size: int) -> None:
    record = bytes(11) + size.to_bytes(2, "big") + bytes(size)
    datagrams = seam.split_records(record * count)
    assert b"".join(datagrams) == record * count
    assert all(len(datagram) <= seam.DATAGRAM_BYTES for datagram in datagrams)
    assert all(len(datagram) % len(record) == 0 for datagram in datagrams)


def test_reports_read_back() -> None:
    reception = seam.ReceptionReport(1, 25, 100, 65600, 48, 0x12345678, 65536)
    data = seam.pack_report(seam.ReportFigures(7, "name", 0x0123456789ABCDEF, 960, 50, 4000), reception)
    assert seam.parse_reports(data) == [seam.SenderReport(7, 0x0123456789ABCDEF), reception]
    assert seam.parse_reports(seam.pack_bye(7)) == []


@given(st.binary(max_size=120))
def test_any_rtcp_is_reports_or_nothing(data: bytes) -> None:
    for prefix in (b"", b"\x81\xc8\x00", b"\x81\xc9\x00\x07", b"\x81\xca\x00\x06"):
        seam.parse_reports(prefix + data)
