"""TLS for a hub without a public certificate; the one rule: no byte leaves before the pin was checked.

The pin is the SHA-256 of the server's certificate (DER), in hex. The check sits inside the TLS
handshake itself, where both `http.client` (SSLSocket) and asyncio (SSLObject) must pass: a
handshake with another certificate fails like one with a wrong CA, before any request is written.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from typing import cast

_PIN_PATTERN = re.compile(r"[0-9a-f]{64}\Z")


class PinMismatchError(ssl.SSLCertVerificationError):
    """The server showed another certificate than the pinned one, or none."""

    code = "pin_mismatch"


def normalize_pin(pin: str) -> str:
    """Return the pin as 64 lower-case hex digits (colons and case are forgiven); ValueError if not one."""
    text = pin.strip().lower().replace(":", "")
    if not _PIN_PATTERN.match(text):
        raise ValueError("a TLS pin has 64 hex digits")
    return text


def certificate_pin(der: bytes) -> str:
    """Return the pin of a certificate in DER form."""
    return hashlib.sha256(der).hexdigest()


def tls_context(pin: str = "") -> ssl.SSLContext:
    """Return a client context: the system's authorities without a pin, only the pinned one with it.

    Good for `http.client`, asyncio and the websockets library alike. ValueError for a malformed pin.
    """
    if not pin:
        context = ssl.create_default_context()
    else:
        context = _PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.pin = normalize_pin(pin)
        # Who the certificate names, who signed it and until when plays no part: it is *that* one or none.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _PinnedSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check(self)


class _PinnedObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _check(self)


class _PinnedContext(ssl.SSLContext):
    """A context whose every connection checks the pin at the end of its handshake."""

    sslsocket_class = _PinnedSocket
    sslobject_class = _PinnedObject
    pin: str


def _check(connection: ssl.SSLSocket | ssl.SSLObject) -> None:
    expected = cast("_PinnedContext", connection.context).pin
    certificate = connection.getpeercert(binary_form=True)
    if certificate is None or not hmac.compare_digest(certificate_pin(certificate), expected):
        raise PinMismatchError(1, "the server's certificate is not the pinned one")
