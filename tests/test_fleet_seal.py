"""Health sealed for the operator, as the RFC has it; the page opens one in a test of its own."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from voicemeet_edge.errors import SealError
from voicemeet_edge.fleet_seal import (
    CONTEXT,
    SEALED_CHARS,
    FleetKeyError,
    make_key,
    open_sealed,
    parse_public,
    seal,
)
from voicemeet_edge.secret import Secret

DEVICE = "0123456789abcdef"
SUITE = Suite(KEM.P256, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def opened(private: Secret, sealed: str, device: str = DEVICE) -> object:
    key = ec.derive_private_key(int.from_bytes(bytes_of(private.reveal())[:32], "big"), ec.SECP256R1())
    return json.loads(SUITE.decrypt(bytes_of(sealed), key, CONTEXT + device.encode()))


def test_whoever_has_the_key_and_the_devices_id_opens_it() -> None:
    private, public = make_key()
    report = {"name": "Tor 3 – Süd", "faults": ["microphone"], "temperature_c": 51.5}
    assert opened(private, seal(public, DEVICE, report)) == report


def test_it_is_of_one_length_and_never_the_same() -> None:
    _, public = make_key()
    sealed = {seal(public, DEVICE, {"faults": ["x" * length]}) for length in (0, 1, 700)}
    sealed |= {seal(public, DEVICE, {"faults": ["x"]}) for _ in range(3)}
    assert len(sealed) == 6
    assert {len(text) for text in sealed} == {SEALED_CHARS}
    with pytest.raises(ValueError, match="length"):
        seal(public, DEVICE, {"faults": ["x" * 1024]})


def test_another_key_another_box_and_a_changed_byte_open_nothing() -> None:
    private, public = make_key()
    sealed = seal(public, DEVICE, {"faults": []})
    other, _ = make_key()
    for key, device, text in (
        (other, DEVICE, sealed),
        (private, "f" * 16, sealed),
        (private, DEVICE, sealed[:-8] + "AAAAAAAA"),
    ):
        with pytest.raises(InvalidTag):
            opened(key, text, device)


@pytest.mark.parametrize("text", ["", "A" * 87, "B" + "A" * 86, "B" * 86, "ü" * 87, "B" * 88])
def test_what_is_no_point_of_the_curve_is_refused(text: str) -> None:
    with pytest.raises(FleetKeyError):
        parse_public(text)


def test_the_private_half_prints_as_dots() -> None:
    private, public = make_key()
    assert private.reveal() not in repr(private)
    assert len(public) == 87
    assert len(private.reveal()) == 130
    assert base64.urlsafe_b64decode(private.reveal() + "==")[32:] == bytes_of(public)


def test_the_operator_opens_what_was_sealed_for_the_box() -> None:
    private, public = make_key()
    report = {"name": "Gate 3", "at": 5}
    sealed = SUITE.encrypt(json.dumps(report).encode(), parse_public(public), CONTEXT + DEVICE.encode())
    text = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    assert open_sealed(private, DEVICE, text) == report
    assert open_sealed(Secret(f" {private.reveal()}\n"), DEVICE, text) == report  # as a file has it
    other, _ = make_key()
    for key, device, changed in (
        (other, DEVICE, text),
        (private, "f" * 16, text),
        (private, DEVICE, text[:-8] + "AAAAAAAA"),
        (private, DEVICE, "B" + "A" * 200),
        (private, DEVICE, "ü"),
    ):
        with pytest.raises(SealError):
            open_sealed(key, device, changed)


@pytest.mark.parametrize("sealed", [b"[]", b"5", b"{", b"\xff", b"[" * 1024])
def test_a_seal_around_no_report_is_no_report(sealed: bytes) -> None:
    private, public = make_key()
    data = SUITE.encrypt(sealed, parse_public(public), CONTEXT + DEVICE.encode())
    with pytest.raises(SealError):
        open_sealed(private, DEVICE, base64.urlsafe_b64encode(data).rstrip(b"=").decode())


def test_half_a_key_or_two_that_do_not_belong_together_are_refused() -> None:
    private, public = make_key()
    sealed = seal(public, DEVICE, {})
    foreign = make_key()[0].reveal()
    mixed = base64.urlsafe_b64encode(bytes_of(private.reveal())[:32] + bytes_of(foreign)[32:]).rstrip(b"=")
    for text in (private.reveal()[:43], "", "!" * 130, mixed.decode(), "A" * 130):
        with pytest.raises(FleetKeyError):
            open_sealed(Secret(text), DEVICE, sealed)
