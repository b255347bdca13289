"""How often somebody may ask, and when who was refused comes again; every table of askers has a size.

Pure token buckets: a single one, or one per key (an address or a device token's hash), the least recently
used out first. Where several stand behind one key, each of the refused is given a turn of its own.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Sequence

from voicemeet_edge.records import dataclass

MAX_KEYS = 50_000  # buckets per limiter, about 13 MB; evicting a bucket only refills it
MAX_TURN_S = 60.0  # s; what is told at most, so that one who floods keeps nobody away for long
IPV6_PREFIX = 64  # bits: one subscriber owns at least a /64 and may use any address in it
SITE_PREFIX = 48  # bits: the most that one subscriber usually gets, 65,536 times a /64
SITE_SHARES = 8  # of a /64, that a /48 has in all: a provider may also have put many subscribers into it


@dataclass(frozen=True, slots=True)
class Rate:
    """`burst` requests at once and `per_s` more each second."""

    per_s: float
    burst: float


class Bucket:
    """One token bucket; whoever holds it may keep its rate elsewhere."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._tokens = rate.burst
        self._at = now

    def take(self, rate: Rate, now: float, cost: float = 1.0) -> float:
        """Take `cost` tokens; return 0 when they were there, else the seconds until they are."""
        self._tokens = min(rate.burst, self._tokens + max(0.0, now - self._at) * rate.per_s)
        self._at = now
        if self._tokens < cost:
            return (cost - self._tokens) / rate.per_s
        self._tokens -= cost
        return 0.0


class Turns:
    """When the refused come again: one after the other, or all would meet the one next token.

    Only time brings a line forward: who does not come has kept its turn from nobody.
    """

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._next: OrderedDict[str, float] = OrderedDict()

    def book(self, key: str, wait_s: float, apart_s: float, now: float) -> float:
        """Return the seconds until this key's next free turn.

        `wait_s`: the soonest that coming makes sense; `apart_s`: between two turns. Whose turn would be
        later than `MAX_TURN_S` is told that, and books none.
        """
        soonest = now + wait_s
        turn = max(soonest, self._next.pop(key, soonest))
        latest = max(soonest, now + MAX_TURN_S)
        self._next[key] = turn if turn > latest else turn + apart_s
        if len(self._next) > self._max_keys:
            self._next.popitem(last=False)
        return min(turn, latest) - now

    def __len__(self) -> int:
        return len(self._next)


class Limiter:
    """Token buckets for one kind of request; `is_shared`: several askers stand behind one key."""

    def __init__(self, rate: Rate, max_keys: int = MAX_KEYS, *, is_shared: bool = False) -> None:
        self._rate = rate
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._turns = Turns(max_keys) if is_shared else None

    def take(self, key: str, now: float, cost: float = 1.0) -> float:
        """Take `cost` tokens; return 0 when they were there, else the seconds after which to come again."""
        bucket = self._buckets.pop(key, None) or Bucket(self._rate, now)
        self._buckets[key] = bucket
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        wait_s = bucket.take(self._rate, now, cost)
        if wait_s > 0 and self._turns is not None:
            return self._turns.book(key, wait_s, cost / self._rate.per_s, now)
        return wait_s

    def __len__(self) -> int:
        return len(self._buckets)


class AddressLimiter:
    """A bucket for each address, and a larger one for the IPv6 /48 around it."""

    def __init__(self, rate: Rate) -> None:
        self._addresses = Limiter(rate, is_shared=True)
        self._sites = Limiter(Rate(rate.per_s * SITE_SHARES, rate.burst * SITE_SHARES), is_shared=True)

    def take(self, key: str, now: float) -> float:
        """Take one token of each; return 0 when they were there, else the seconds to wait."""
        wait_s = self._addresses.take(key, now)
        site = site_key(key)
        if wait_s == 0 and site:
            return self._sites.take(site, now)
        return wait_s


class Held:
    """How many places each address holds now, and the IPv6 /48 around it; who has no address holds none."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()

    def count(self, address: str, change: int) -> None:
        """An address takes a place (1) or gives it back (-1)."""
        for key in filter(None, (address, site_key(address))):
            self._held[key] += change
            if not self._held[key]:
                del self._held[key]

    def is_full(self, address: str, most: int) -> bool:
        """Say whether there is none left, of `most` for an address."""
        site = site_key(address)
        return bool(address) and (
            self._held[address] >= most or (bool(site) and self._held[site] >= most * SITE_SHARES)
        )


def site_key(key: str) -> str:
    """Return the IPv6 /48 around what `address_key` returned for a /64; "" where there is none."""
    return f"site {int(key) >> (IPV6_PREFIX - SITE_PREFIX)}" if key.isdecimal() else ""


def address_key(address: str, on_link: Sequence[ipaddress.IPv6Network] = ()) -> str:
    """Return what is counted as one requester: an IPv4 address, or the /64 of an IPv6 one; a key stays.

    On our own links (`on_link`) it is the address alone: there a /64 is not one subscriber but everybody.
    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    if parsed.is_link_local or any(parsed in network for network in on_link):
        return f"on link {int(parsed)}"
    return str(int(parsed) >> (128 - IPV6_PREFIX))
