"""Who may ask how often: strangers share by address, known ones have shares no stranger can use up.

Pure; the one rule: what somebody without a good token does never slows down somebody with one. Nor do new
tokens slow down polls: a building that switches on asks for the one while others already wait by the other.
"""

from __future__ import annotations

from voicemeet_edge.hub.limits import AddressLimiter, Limiter, Rate
from voicemeet_edge.hub.refusal import too_fast
from voicemeet_edge.hub.settings import LimitSettings

WRONG_KEY = Rate(
    per_s=1.0, burst=20.0
)  # requests with a wrong apikey from one address: never honest for long


class Shares:
    """The buckets of one hub; every method raises RefusedError 429 when its bucket is empty."""

    def __init__(self, limits: LimitSettings) -> None:
        self._wrong = AddressLimiter(WRONG_KEY)
        self._strangers = AddressLimiter(Rate(limits.address_per_s, limits.address_burst))
        self._sessions = AddressLimiter(Rate(limits.session_per_s, limits.session_burst))
        self._known = AddressLimiter(Rate(limits.known_per_s, limits.known_burst))
        self._renewals = AddressLimiter(Rate(limits.known_per_s, limits.known_burst))
        self._passes = Limiter(Rate(limits.pass_per_s, limits.pass_burst), is_shared=True)
        self._devices = Limiter(Rate(limits.device_per_s, limits.device_burst))
        self._reports = Limiter(Rate(limits.report_per_s, limits.report_burst))

    def wrong_key(self, address: str, now: float) -> None:
        """Count a request with a wrong apikey."""
        _take(self._wrong, address, now)

    def stranger(self, address: str, now: float) -> None:
        """Count a request without a good token."""
        _take(self._strangers, address, now)

    def known(self, address: str, now: float) -> None:
        """Count a request with a token of ours that no pass stands behind."""
        _take(self._known, address, now)

    def renewal(self, address: str, now: float) -> None:
        """Count a request for a new token with an old one that no pass stands behind."""
        _take(self._renewals, address, now)

    def session(self, address: str, pass_id: str, now: float) -> None:
        """Count a new device token: for its pass, or for its address without one."""
        if pass_id:
            _take(self._passes, pass_id, now)
        else:
            _take(self._sessions, address, now)

    def device(self, device: str, now: float) -> None:
        """Count a request of one device token, or of one slot of a call."""
        _take(self._devices, device, now)

    def report(self, reporter: str, now: float) -> None:
        """Count a report of one device."""
        _take(self._reports, reporter, now)


def _take(limiter: Limiter | AddressLimiter, key: str, now: float) -> None:
    wait_s = limiter.take(key, now)
    if wait_s > 0:
        raise too_fast(round(wait_s + 0.05, 1))
