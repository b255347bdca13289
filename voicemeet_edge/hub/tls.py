"""The hub's certificate; the one rule: without a given one, make one and tell its pin.

A self-signed certificate is safe here because devices are told its SHA-256 (backend/pin.py) and ask
nothing else about it. ECDSA P-256: small handshakes for small devices.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..backend.pin import certificate_pin
from ..errors import SettingsError
from .secrets import write_private
from .settings import HttpSettings

SELF_SIGNED_FILE = "hub-certificate.pem"  # key and certificate in one file: written whole or not at all
VALID_DAYS = 3_650  # days; the pin, not the date, is what a device trusts


@dataclass(frozen=True, slots=True)
class HubTls:
    """A server context and the pin of its certificate; `certificate` and `key` for coturn."""

    context: ssl.SSLContext
    pin: str
    certificate: Path
    key: Path


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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
        pem = certificate.read_bytes()
        der = x509.load_pem_x509_certificates(pem)[0].public_bytes(serialization.Encoding.DER)
    except (OSError, ValueError) as error:
        # str(error) of ssl names no secret, but may span lines; its class says enough.
        raise SettingsError(
            "hub.toml",
            "http.certificate",
            certificate.name,
            f"a PEM chain and its key ({type(error).__name__})",
        ) from None
    return HubTls(context, certificate_pin(der), certificate, key)


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
    now = datetime.datetime.now(datetime.UTC)
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
