"""The hub's certificate and its pin."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from voicemeet_edge.backend.pin import certificate_pin
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.settings import HttpSettings
from voicemeet_edge.hub.tls import SELF_SIGNED_FILE, hub_tls, make_self_signed


def test_self_signed_is_made_once_and_its_pin_stays(tmp_path: Path) -> None:
    first = hub_tls(HttpSettings(), tmp_path, ["hub.example"])
    second = hub_tls(HttpSettings(), tmp_path, ["other.example"])
    assert first is not None
    assert second is not None
    assert first.pin == second.pin
    path = tmp_path / SELF_SIGNED_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])
    assert first.pin == certificate_pin(der)


def test_names_are_in_the_certificate() -> None:
    certificate = x509.load_pem_x509_certificate(make_self_signed(["hub.example", "198.51.100.7"]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "hub.example" in names.get_values_for_type(x509.DNSName)
    assert "198.51.100.7" in map(str, names.get_values_for_type(x509.IPAddress))


def test_given_files(tmp_path: Path) -> None:
    pem = tmp_path / "both.pem"
    pem.write_bytes(make_self_signed(["hub.example"]))
    given = HttpSettings(tls="files", certificate=str(pem), private_key=str(pem))
    assert hub_tls(given, tmp_path, []) is not None
    pem.write_text("nonsense")
    with pytest.raises(SettingsError):
        hub_tls(given, tmp_path, [])


def test_off_is_none(tmp_path: Path) -> None:
    assert hub_tls(HttpSettings(tls="off"), tmp_path, []) is None
