"""Fuzz target of what updates read: an offer of a server, the history on the data partition, a hub's book.

Accept list: OfferError. A history, a note and a book never fail: what makes no sense is a new one, or none.
What was read is written and read back the same.
"""

from __future__ import annotations

from voicemeet_edge.hub.updates import Book
from voicemeet_edge.update.history import MAX_FAILED, History
from voicemeet_edge.update.note import parse_note
from voicemeet_edge.update.offer import OfferError, UpdateOffer
from voicemeet_edge.update.rollout import Rollout
from voicemeet_edge.update.version import SystemVersion

_VERSION = SystemVersion(0, 2, 0)
_OFFER = UpdateOffer("voicemeet-edge-device-arm64", _VERSION, "x.raucb", 5, "ab" * 32, 20)
_HISTORY = History("id").begins(_VERSION, "b", "a").fell_back("no sound", 5.0).begins(_VERSION, "a", "b")
_BOOK = Book((Rollout("0.2.0", 5.0, 1, 2, 3),), {"0.2.0": ["abc"]})
SEEDS = (_OFFER.serialize(), _HISTORY.serialize(), _BOOK.serialize())


def fuzz_one(data: bytes) -> None:
    """Read any bytes as each of the three."""
    try:
        offer = UpdateOffer.parse(data)
    except OfferError:
        pass
    else:
        if UpdateOffer.parse(offer.serialize()) != offer:
            raise AssertionError("an offer reads back as another")
    history = History.parse(data)
    if len(history.failed) > MAX_FAILED or History.parse(history.serialize()) != history:
        raise AssertionError("a history is out of its limits, or reads back as another")
    parse_note(data)
    book = Book.parse(data)
    if Book.parse(book.serialize()) != book:
        raise AssertionError("a book reads back as another")
