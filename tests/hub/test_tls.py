"""The hub's certificate and its pin."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from voicemeet_edge.backend.pin import certificate_pin
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.settings import HttpSettings
from voicemeet_edge.hub.tls import SELF_SIGNED_FILE, cut, hub_tls, make_self_signed


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


def test_names_that_came_later_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hub_tls(HttpSettings(names=("hub.example", "198.51.100.7")), tmp_path, ["hub.example", "198.51.100.7"])
    assert caplog.text == ""
    hub_tls(HttpSettings(names=("Hub.example",)), tmp_path, ["Hub.example"])
    assert caplog.text == ""
    hub_tls(HttpSettings(names=("other.example",)), tmp_path, ["other.example"])
    assert f"remove {SELF_SIGNED_FILE} in state_dir" in caplog.text
    assert "other.example" not in caplog.text


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


def test_in_1970_it_is_valid_when_the_clock_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Stopped:
            return cls(1970, 1, 1, tzinfo=tz)

    with monkeypatch.context() as patched:
        patched.setattr("voicemeet_edge.hub.tls.datetime.datetime", Stopped)
        pem = make_self_signed(["hub.example"])
    certificate = x509.load_pem_x509_certificate(pem)
    now = datetime.datetime.now(datetime.UTC)
    assert now + datetime.timedelta(days=365) < certificate.not_valid_after_utc


async def test_a_connection_that_was_closed_already_can_be_cut(tmp_path: Path) -> None:
    # Fails with `abort` alone on Python 3.11: and whoever swept idle sockets was swept away by it.
    tls = await asyncio.to_thread(hub_tls, HttpSettings(), tmp_path, ["hub.example"])
    assert tls is not None
    seen: asyncio.Queue[asyncio.WriteTransport] = asyncio.Queue()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(writer.transport)

    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls.context) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        transport = await seen.get()
        transport.close()
        transport.close()
        cut(transport)
        cut(None)
        assert await reader.read() == b""
        writer.close()
