"""How often somebody may ask; the one rule: the table of askers has a size, whoever asks.

Pure token buckets, one per key (an address or a device token's hash), least recently used out first.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

MAX_KEYS = 50_000  # buckets per limiter, about 10 MB; evicting a bucket only refills it
IPV6_PREFIX = 64  # bits: one subscriber owns at least a /64 and may use any address in it


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` requests at once and `per_s` more each second."""

    per_s: float
    burst: float


class Limiter:
    """Token buckets for one kind of request."""

    def __init__(self, rate: Rate, max_keys: int = MAX_KEYS) -> None:
        self._rate = rate
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Take one token; return 0 when there was one, else the seconds until there is."""
        tokens, at = self._buckets.pop(key, (self._rate.burst, now))
        tokens = min(self._rate.burst, tokens + max(0.0, now - at) * self._rate.per_s)
        if tokens >= 1.0:
            self._buckets[key] = (tokens - 1.0, now)
            wait_s = 0.0
        else:
            self._buckets[key] = (tokens, now)
            wait_s = (1.0 - tokens) / self._rate.per_s
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return wait_s

    def __len__(self) -> int:
        return len(self._buckets)


def address_key(address: str) -> str:
    """Return what is counted as one asker: an IPv4 address, or the /64 of an IPv6 one."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(int(parsed) >> (128 - IPV6_PREFIX))
