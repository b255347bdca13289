"""What a device tells of its health, sealed for its operator: the hub keeps it and cannot read it. Pure.

One rule: all that is sealed has one length, so that how long it is tells nothing.

The seal is HPKE (RFC 9180) in base mode, with P-256, HKDF-SHA256 and AES-256-GCM, which a browser can open
(hub/operator/fleet_seal.js). Base mode says nothing of the sender: whoever has the operator's public key can
make such a seal, the hub too. What it cannot do is read one, or pass one box's off as another's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from voicemeet_edge.errors import LocalError, SealError
from voicemeet_edge.secret import Secret

PUBLIC_BYTES: Final = 65  # an uncompressed point of P-256 (SEC 1, section 2.3.3)
PRIVATE_BYTES: Final = 32
PLAIN_BYTES: Final = 1024  # of every report; the longest has 700
TAG_BYTES: Final = 16
SEALED_CHARS: Final = -(-(PUBLIC_BYTES + PLAIN_BYTES + TAG_BYTES) * 4 // 3)  # base64url without padding
CONTEXT: Final = b"voicemeet-edge v1 fleet\n"

_SUITE: Final = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class FleetKeyError(LocalError):
    """A text is no fleet key."""

    code = "bad_fleet_key"


def make_key() -> tuple[Secret, str]:
    """Make a key pair; returns what the operator keeps (both halves), and what the devices are told."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, point = key.private_numbers().private_value, _point(key.public_key())
    return Secret(_text(private.to_bytes(PRIVATE_BYTES, "big") + point)), _text(point)


def parse_public(text: str) -> ec.EllipticCurvePublicKey:
    """Read what devices are told; FleetKeyError when it is no point of the curve."""
    try:
        point = _bytes(text)
        if len(point) != PUBLIC_BYTES:
            raise ValueError
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        raise FleetKeyError(
            "this is no device's half of a fleet key: one has 87 letters and digits"
        ) from None


def seal(public: str, device: str, report: Mapping[str, object]) -> str:
    """Seal a device's report for the holder of the key.

    Raises:
        FleetKeyError: `public` is no key.
        ValueError: the report is too long.
    """
    plain = json.dumps(report, separators=(",", ":"), ensure_ascii=False).encode()
    if len(plain) > PLAIN_BYTES:
        raise ValueError("a report of this length would tell by it")
    # Spaces after JSON are JSON, too.
    return _text(_SUITE.encrypt(plain.ljust(PLAIN_BYTES), parse_public(public), CONTEXT + device.encode()))


def open_sealed(private: Secret, device: str, sealed: str) -> dict[str, object]:
    """Open what a device sealed; SealError when it was sealed for another key or box, or changed."""
    key = _parse_private(private)
    try:
        report = json.loads(_SUITE.decrypt(_bytes(sealed), key, CONTEXT + device.encode()))
    except (ValueError, InvalidTag, RecursionError):
        report = None
    if not isinstance(report, dict):
        raise SealError("sealed with another fleet key, or changed on the way", code="seal_broken")
    return report


def _parse_private(text: Secret) -> ec.EllipticCurvePrivateKey:
    """Read what the operator keeps; FleetKeyError when its halves do not belong together."""
    try:
        data = _bytes("".join(text.reveal().split()))
        if len(data) != PRIVATE_BYTES + PUBLIC_BYTES:
            raise ValueError
        key = ec.derive_private_key(int.from_bytes(data[:PRIVATE_BYTES], "big"), ec.SECP256R1())
        if _point(key.public_key()) != data[PRIVATE_BYTES:]:
            raise ValueError
    except ValueError:
        raise FleetKeyError("this is no fleet key: one has 130 letters and digits") from None
    return key


def _point(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _bytes(text: str) -> bytes:
    """Read base64url in its one form; ValueError for anything else."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _text(data) != text:
        raise ValueError("not in its one form")
    return data


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
