from __future__ import annotations

import json

import pytest

from voicemeet_edge.update.offer import MAX_OFFER_BYTES, OfferError, UpdateOffer
from voicemeet_edge.update.version import SystemVersion

OFFER = UpdateOffer(
    "voicemeet-edge-device-arm64", SystemVersion(0, 2, 0), "voicemeet-0.2.0.raucb", 150_000_000, "ab" * 32, 20
)


def test_an_offer_is_read_as_it_was_written() -> None:
    assert UpdateOffer.parse(OFFER.serialize()) == OFFER


def test_without_a_share_all_devices_take_it() -> None:
    table = json.loads(OFFER.serialize())
    del table["percent"]
    assert UpdateOffer.parse(json.dumps(table).encode()).percent == 100


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("board", "Other Board"),
        ("board", None),
        ("version", "0.2"),
        ("version", ["0.2.0"]),
        ("bundle", "https://elsewhere.example/x.raucb"),
        ("bundle", "../x.raucb"),
        ("bundle", "x.img"),
        ("size", 0),
        ("size", 1 << 40),
        ("size", True),
        ("sha256", "ab"),
        ("percent", 101),
        ("percent", "20"),
    ],
)
def test_what_is_out_of_its_form_is_refused_by_name(key: str, value: object) -> None:
    table = json.loads(OFFER.serialize()) | {key: value}
    with pytest.raises(OfferError, match=key):
        UpdateOffer.parse(json.dumps(table).encode())


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"\xff", b"[" * 4000, b" " * (MAX_OFFER_BYTES + 1)])
def test_what_is_no_offer_is_refused(raw: bytes) -> None:
    with pytest.raises(OfferError):
        UpdateOffer.parse(raw)
