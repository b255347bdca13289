"""Why a server's certificate was not taken, in words a person can act on."""

from __future__ import annotations

import datetime
import ssl

from voicemeet_edge.net.faults import of_tls_error
from voicemeet_edge.not_connected import NotConnected

_BY_CLOCK = (NotConnected.CERTIFICATE_NOT_YET_VALID, NotConnected.CERTIFICATE_EXPIRED)
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")


def explain(error: ssl.SSLError, now: float) -> tuple[NotConnected, str]:
    """Return the reason and a sentence for a TLS handshake that failed.

    Args:
        error: what the handshake raised.
        now: what this machine's clock says, unix seconds; a Pi without a battery starts in the past.
    """
    reason = of_tls_error(error)
    if reason in _BY_CLOCK:
        day = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        return reason, f"{reason.said}; this machine's clock says {day}: is it right?"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return reason, "the hub ended the connection during the TLS handshake"
    if reason is NotConnected.TLS and getattr(error, "reason", "") in _NO_TLS:
        return reason, "what answers does not speak TLS on this port"
    return reason, reason.said
