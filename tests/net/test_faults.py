"""What the system raises, as one of the reasons for "not connected"."""

from __future__ import annotations

import socket
import ssl

import pytest

from voicemeet_edge.backend.pin import PinMismatchError
from voicemeet_edge.net.faults import detail, of_os_error
from voicemeet_edge.not_connected import NotConnected


def verify_error(number: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "not taken")
    error.verify_code = number
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "hub.example"), NotConnected.NAME_UNKNOWN),
        (TimeoutError(), NotConnected.TIMEOUT),
        (ConnectionRefusedError(111, "refused"), NotConnected.NOBODY_LISTENS),
        (OSError(113, "192.0.2.1"), NotConnected.UNREACHABLE),
        (PinMismatchError(1, "another"), NotConnected.PIN_MISMATCH),
        (verify_error(9), NotConnected.CERTIFICATE_NOT_YET_VALID),
        (verify_error(10), NotConnected.CERTIFICATE_EXPIRED),
        (verify_error(62), NotConnected.CERTIFICATE_WRONG_NAME),
        (verify_error(18), NotConnected.CERTIFICATE_UNKNOWN),
        (verify_error(7), NotConnected.CERTIFICATE_NOT_TAKEN),
        (ssl.SSLError(1, "handshake"), NotConnected.TLS),
    ],
    ids=lambda value: value.value if isinstance(value, NotConnected) else "",
)
def test_what_the_system_raises_is_one_of_them(error: OSError, reason: NotConnected) -> None:
    assert of_os_error(error) is reason


def test_an_errors_own_text_is_not_repeated() -> None:
    assert detail(OSError(113, "192.0.2.1")) == "No route to host"
    assert detail(OSError("192.0.2.1")) == "OSError"
