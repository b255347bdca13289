"""Which reason for "not connected" an error of the system is; never its text, which may hold an address."""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final

from voicemeet_edge.not_connected import NotConnected

# X509_V_ERR_… of openssl/x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME: Final = (62, 63, 64)  # host name, e-mail, address
_UNKNOWN_ISSUER: Final = (2, 18, 19, 20, 21)


def of_tls_error(error: ssl.SSLError) -> NotConnected:
    """Return what a TLS handshake that failed means."""
    code = getattr(error, "code", None)
    if isinstance(code, str):  # one of ours, which says it itself
        return NotConnected.of(code) or NotConnected.CERTIFICATE_NOT_TAKEN
    number = getattr(error, "verify_code", None)
    if number == _NOT_YET_VALID:
        return NotConnected.CERTIFICATE_NOT_YET_VALID
    if number == _EXPIRED:
        return NotConnected.CERTIFICATE_EXPIRED
    if number in _WRONG_NAME:
        return NotConnected.CERTIFICATE_WRONG_NAME
    if number in _UNKNOWN_ISSUER:
        return NotConnected.CERTIFICATE_UNKNOWN
    if isinstance(error, ssl.SSLCertVerificationError):
        return NotConnected.CERTIFICATE_NOT_TAKEN
    return NotConnected.TLS


def of_os_error(error: OSError) -> NotConnected:
    """Return what a connection that failed means."""
    match error:
        case ssl.SSLError():
            return of_tls_error(error)
        case socket.gaierror():
            return NotConnected.NAME_UNKNOWN
        case TimeoutError():
            return NotConnected.TIMEOUT
        case ConnectionRefusedError():
            return NotConnected.NOBODY_LISTENS
        case _:
            return NotConnected.UNREACHABLE


def detail(error: OSError) -> str:
    """Return the system's word for an error; never its text, which may hold an address."""
    return os.strerror(error.errno) if error.errno else type(error).__name__
