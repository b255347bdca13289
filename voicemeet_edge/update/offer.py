"""What an update server says it has for one kind of board; pure.

One rule: an offer is only a hint. It is not signed, so nothing in it is believed: the bundle it names is
checked by its own signature, board and version before a byte of it is written to a slot.
"""

from __future__ import annotations

import json
import re

from voicemeet_edge.errors import RemoteError
from voicemeet_edge.records import dataclass
from voicemeet_edge.update.version import SystemVersion, VersionError

PASS_HEADER = "voicemeet-pass"  # shows the hub that no stranger fetches a bundle (docs/updates.md)
MAX_OFFER_BYTES = 4_096  # bytes; ours have about 300
MAX_BUNDLE_BYTES = 1 << 30  # bytes; a slot is far smaller
_BOARD = re.compile(r"[a-z0-9-]{1,64}")
# A bare file name: the bundle lies beside its offer, so that an offer cannot send devices anywhere else.
_BUNDLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\.raucb")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class OfferError(RemoteError):
    """The server's offer cannot be read."""

    code = "bad_offer"


def offer_name(board: str) -> str:
    """Return the file name of the offer for a board."""
    return f"offer-{board}.json"


@dataclass(frozen=True)
class UpdateOffer:
    """One version of the system for one kind of board."""

    board: str
    """Which image on which processor, such as voicemeet-edge-device-arm64."""
    version: SystemVersion
    bundle: str
    size: int
    sha256: str
    percent: int = 100
    """How many devices of a hundred take it by themselves."""

    @classmethod
    def parse(cls, raw: bytes) -> UpdateOffer:
        """Read an offer.

        Raises:
            OfferError: it is none, or out of its limits.
        """
        if len(raw) > MAX_OFFER_BYTES:
            raise OfferError(f"the offer is longer than {MAX_OFFER_BYTES} bytes")
        try:
            table = json.loads(raw)
        except (ValueError, RecursionError):
            raise OfferError("the offer is no JSON") from None
        if not isinstance(table, dict):
            raise OfferError("the offer is no JSON object")
        return cls(
            board=_text(table, "board", _BOARD),
            version=_version(table),
            bundle=_text(table, "bundle", _BUNDLE),
            size=_number(table, "size", 1, MAX_BUNDLE_BYTES),
            sha256=_text(table, "sha256", _SHA256),
            percent=_number({"percent": 100, **table}, "percent", 0, 100),
        )

    def serialize(self) -> bytes:
        """Write it as the file that a server serves."""
        table = {
            "board": self.board,
            "version": str(self.version),
            "bundle": self.bundle,
            "size": self.size,
            "sha256": self.sha256,
            "percent": self.percent,
        }
        return (json.dumps(table, indent=1) + "\n").encode()


def _text(table: dict[str, object], key: str, form: re.Pattern[str]) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise OfferError(f"the offer's {key} is missing or not of its form")
    return value


def _version(table: dict[str, object]) -> SystemVersion:
    try:
        return SystemVersion.parse(str(table.get("version")))
    except VersionError as error:
        raise OfferError(f"the offer's version is not of its form: {error}") from None


def _number(table: dict[str, object], key: str, low: int, high: int) -> int:
    value = table.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise OfferError(f"the offer's {key} is no whole number from {low} to {high}")
    return value
