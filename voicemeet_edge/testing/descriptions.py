"""What a session description tells about us, read by other means than those that wrote it."""

from __future__ import annotations

import itertools
import re
from typing import assert_never

from voicemeet_edge.choices import IcePolicy

_ADDRESS_V4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])")
_ADDRESS_V6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])")
_BLANK_ADDRESSES = frozenset({"0.0.0.0", "127.0.0.1", "::", "::1"})


def policy_allows(policy: IcePolicy, kind: str, *, is_name: bool) -> bool:
    """Say whether a candidate of this kind may appear in a description we send."""
    match policy:
        case IcePolicy.RELAY:
            return kind == "relay"
        case IcePolicy.MDNS:
            return kind == "relay" or (kind == "host" and is_name)
        case IcePolicy.DIRECT:
            return True
        case _:
            assert_never(policy)


def leaks(text: str, policy: IcePolicy) -> list[str]:
    """Return what a description tells that its policy forbids; empty when it keeps its promise."""
    found: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.startswith("a=candidate:"):
            fields = line.split()
            kind, address = fields[7], fields[4]
            if not policy_allows(policy, kind, is_name=address.endswith(".local")):
                found.append(line)
            related = [value for name, value in itertools.pairwise(fields) if name == "raddr"]
            if any(value not in _BLANK_ADDRESSES for value in related):
                found.append(line)
        elif not line.startswith("a=fingerprint:"):
            addresses = _ADDRESS_V4.findall(line) + _ADDRESS_V6.findall(line)
            found.extend(line for address in addresses if address not in _BLANK_ADDRESSES)
    return found
