"""The hub's certificate; the one rule: without a given one, make one and tell its pin.

A self-signed certificate is safe here because devices are told its SHA-256 (backend/pin.py) and ask
nothing else about it. ECDSA P-256: small handshakes for small devices.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import logging
import ssl
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from voicemeet_edge.backend.pin import certificate_pin
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.secrets import write_private
from voicemeet_edge.hub.settings import HttpSettings
from voicemeet_edge.records import dataclass

logger = logging.getLogger(__name__)

SELF_SIGNED_FILE = "hub-certificate.pem"  # key and certificate in one file: written whole or not at all
NOT_NAMED = (
    "the hub's own certificate was made for other names than http.names has now: doors that know its pin do "
    "not mind, browsers do. To have it made anew stop the hub, remove %s in state_dir and start it; every "
    "door then needs the new pin"
)
VALID_DAYS = 3_650  # days; the pin, not the date, is what a device trusts


@dataclass(frozen=True, slots=True)
class HubTls:
    """A server context and the pin of its certificate; `certificate` and `key` for coturn."""

    context: ssl.SSLContext
    pin: str
    certificate: Path
    key: Path
    stamp: object
    """Which files these are, to tell when they were renewed."""

    def certificate_pem(self) -> bytes:
        """Return the certificate in use, without its key, for who wants to trust it; blocking."""
        chain = x509.load_pem_x509_certificates(self.certificate.read_bytes())
        return chain[0].public_bytes(serialization.Encoding.PEM)


def stamp_of(certificate: Path, key: Path) -> object:
    """Return what changes when one of the files is written anew, None while one is missing; blocking."""
    try:
        found = [path.stat() for path in (certificate, key)]
    except OSError:
        return None
    return [(one.st_ino, one.st_mtime_ns, one.st_size) for one in found]


def hub_tls(settings: HttpSettings, state_dir: Path, names: Iterable[str]) -> HubTls | None:
    """Return what the hub serves TLS with, None when TLS is off; SettingsError when unusable."""
    if settings.tls == "off":
        return None
    if settings.tls == "files":
        certificate, key = Path(settings.certificate), Path(settings.private_key)
    else:
        certificate = key = state_dir / SELF_SIGNED_FILE
        if not certificate.exists():
            write_private(certificate, make_self_signed(names))
    stamp = stamp_of(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        pem = certificate.read_bytes()
        der = x509.load_pem_x509_certificates(pem)[0].public_bytes(serialization.Encoding.DER)
    except (OSError, ValueError) as error:
        raise SettingsError("hub.toml", "http.certificate", certificate.name, _expected(error)) from None
    if settings.tls == "self-signed" and not _names_all(der, settings.names):
        logger.warning(NOT_NAMED, certificate.name)
    return HubTls(context, certificate_pin(der), certificate, key, stamp)


def _names_all(der: bytes, names: Iterable[str]) -> bool:
    """Say whether a certificate is for all of these names."""
    try:
        extension = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return not names
    listed = {str(one.value).lower() for one in extension.value}
    return {name.lower() for name in names} <= listed


def _expected(error: OSError | ValueError) -> str:
    """Say what was wrong with a pair of files; never the error's text, which may span lines."""
    if isinstance(error, ssl.SSLError):
        if "MISMATCH" in (error.reason or ""):
            return "a certificate and its own key: http.private_key is of another certificate"
        return "a PEM chain, and its key in http.private_key: one of the two files is no PEM"
    if isinstance(error, OSError):
        return f"files the hub's user can read ({error.strerror}): see docs/certificates.md"
    return "a PEM chain and its key"


def _written() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(Path(__file__).stat().st_mtime, datetime.UTC)


def make_self_signed(names: Iterable[str]) -> bytes:
    """Return key and certificate (PEM) for these host names and addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = []
    for name in dict.fromkeys((*names, "localhost", "127.0.0.1", "::1")):
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "VoiceMeet Edge hub")])
    # A machine without a clock may still be in 1970; the time cannot be before this file was written.
    now = max(datetime.datetime.now(datetime.UTC), _written())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A device whose clock is a little behind must not call the certificate "not yet valid".
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


def cut(transport: asyncio.BaseTransport | None) -> None:
    """Close a connection at once, in whatever state it is, in the middle of a handshake too."""
    if isinstance(transport, asyncio.WriteTransport):
        # Python 3.11's TLS transport, closed twice, has let go of what it would abort; it ends by itself.
        with contextlib.suppress(AttributeError):
            transport.abort()
