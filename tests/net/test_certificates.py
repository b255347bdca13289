"""Real handshakes with certificates that are wrong in every way, and what a person is told."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from voicemeet_edge.backend.pin import PinMismatchError, tls_context
from voicemeet_edge.net.certificates import explain

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def certificate(folder: Path, begins: datetime.datetime, ends: datetime.datetime) -> Path:
    """Write key and certificate of `localhost`, valid in this time."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    draft = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    draft = draft.not_valid_before(begins).not_valid_after(ends)
    draft = draft.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
        key, hashes.SHA256()
    )
    path = folder / "both.pem"
    plain = serialization.NoEncryption()
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


def handshake(pem: Path, context: ssl.SSLContext, name: str = "localhost") -> ssl.SSLError:
    """Return what a handshake with this server raises."""
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(pem)
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            ours.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(ssl.SSLError) as caught:
            context.wrap_socket(here, server_hostname=name)
    finally:
        here.close()
        thread.join()
    return caught.value


@pytest.mark.parametrize(
    ("begins", "ends", "name", "trusted", "code", "sentence"),
    [
        (
            NOW + DAY,
            NOW + 9 * DAY,
            "localhost",
            True,
            "certificate_not_yet_valid",
            "2001-09-09 01:46 UTC: is it right",
        ),
        (
            NOW - 9 * DAY,
            NOW - DAY,
            "localhost",
            True,
            "certificate_expired",
            "2001-09-09 01:46 UTC: is it right",
        ),
        (NOW - DAY, NOW + DAY, "hub.example", True, "certificate_wrong_name", "another name"),
        (NOW - DAY, NOW + DAY, "192.0.2.1", True, "certificate_wrong_name", "another name"),
        (NOW - DAY, NOW + DAY, "localhost", False, "certificate_unknown", "nobody this machine trusts"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path,
    begins: datetime.datetime,
    ends: datetime.datetime,
    name: str,
    trusted: bool,
    code: str,
    sentence: str,
) -> None:
    pem = certificate(tmp_path, begins, ends)
    context = ssl.create_default_context(cafile=str(pem) if trusted else None)
    said = explain(handshake(pem, context, name), 1e9)
    assert said[0] == code
    assert sentence in said[1]


def test_another_certificate_than_the_pinned_one(tmp_path: Path) -> None:
    error = handshake(certificate(tmp_path, NOW - DAY, NOW + DAY), tls_context("ab" * 32))
    assert isinstance(error, PinMismatchError)
    assert explain(error, 0.0) == ("pin_mismatch", "the hub's certificate is not the pinned one")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak TLS"), (b"", "ended the connection")],
)
def test_a_server_that_does_not_speak_tls(answer: bytes, sentence: str) -> None:
    here, there = socket.socketpair()
    there.sendall(answer)
    there.shutdown(socket.SHUT_WR)
    with pytest.raises(ssl.SSLError) as caught:
        ssl.create_default_context().wrap_socket(here, server_hostname="localhost")
    there.close()
    code, said = explain(caught.value, 0.0)
    assert code == "tls"
    assert sentence in said
    assert explain(ssl.SSLError(1, "something else"), 0.0) == ("tls", "the TLS handshake with the hub failed")
