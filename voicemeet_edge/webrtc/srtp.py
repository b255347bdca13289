"""Encryption of RTP and RTCP; the one rule: whatever does not authenticate is None."""

from __future__ import annotations

import threading

import pylibsrtp

from voicemeet_edge.webrtc.dtls import EdgeDtls


class Srtp:
    """Both directions of one connection's encryption; from any thread."""

    def __init__(self, dtls: EdgeDtls) -> None:
        self._outgoing: pylibsrtp.Session = dtls._tx_srtp
        self._incoming: pylibsrtp.Session = dtls._rx_srtp
        # libsrtp's sessions are for one thread, and pylibsrtp lets the others run meanwhile.
        self._sending = threading.Lock()
        self._receiving = threading.Lock()

    def protect(self, packet: bytes) -> bytes:
        """Encrypt an RTP packet."""
        with self._sending:
            return self._outgoing.protect(packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Encrypt a compound RTCP packet."""
        with self._sending:
            return self._outgoing.protect_rtcp(packet)

    def unprotect(self, packet: bytes) -> bytes | None:
        """Decrypt an RTP packet."""
        try:
            with self._receiving:
                return self._incoming.unprotect(packet)
        except (pylibsrtp.Error, ValueError):
            return None

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """Decrypt a compound RTCP packet."""
        try:
            with self._receiving:
                return self._incoming.unprotect_rtcp(packet)
        except (pylibsrtp.Error, ValueError):
            return None
