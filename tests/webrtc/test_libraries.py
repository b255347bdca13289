"""The contract with the insides of aiortc and aioice: when one of these fails, the library changed.

Every private thing `webrtc/{dtls,srtp,ice,turn}.py` rely on is named here: read them again.
"""

from __future__ import annotations

import inspect

import aioice
import aiortc
from aioice import stun, turn
from aioice.ice import StunProtocol
from aiortc.rtcdtlstransport import RTCCertificate, RTCDtlsTransport, State
from aiortc.rtcicetransport import RTCIceGatherer, RTCIceTransport

from voicemeet_edge.webrtc import dtls as edge_dtls
from voicemeet_edge.webrtc.ice import EdgeStunProtocol, IceConnection
from voicemeet_edge.webrtc.options import PeerOptions


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def test_the_versions_are_those_this_was_written_for() -> None:
    assert aiortc.__version__.startswith(edge_dtls.SUPPORTED["aiortc"])
    assert aioice.__version__.startswith(edge_dtls.SUPPORTED["aioice"])


async def test_the_dtls_transport_is_as_ours_expects() -> None:
    transport = edge_dtls.make_ice_transport(IceConnection(PeerOptions(), controlling=True))
    dtls = edge_dtls.EdgeDtls(transport, edge_dtls.EdgeCertificate.generateCertificate())
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


def test_the_certificate_is_as_ours_expects() -> None:
    certificate = edge_dtls.EdgeCertificate.generateCertificate()
    assert isinstance(certificate, RTCCertificate)
    assert list(inspect.signature(RTCCertificate._create_ssl_context).parameters) == ["self", "srtp_profiles"]
    assert certificate.sha256 == certificate.getFingerprints()[0].value
    other = edge_dtls.EdgeCertificate.generateCertificate()
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
    for name in ("peer_to_channel", "peer_connect_waiters", "refresh_task"):
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
