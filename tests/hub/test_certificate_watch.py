"""A renewed certificate is used without a restart; a broken or half-written one never is."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hub.running import loopback, run
from voicemeet_edge.backend.pin import certificate_pin
from voicemeet_edge.hub.certificate_watch import CertificateWatch
from voicemeet_edge.hub.settings import HttpSettings
from voicemeet_edge.hub.tls import hub_tls, make_self_signed


def split(pem: bytes) -> tuple[bytes, bytes]:
    """Return certificate and key of what is made as one file."""
    key, _, certificate = pem.partition(b"-----BEGIN CERTIFICATE")
    return b"-----BEGIN CERTIFICATE" + certificate, key


def write(directory: Path, pem: bytes) -> HttpSettings:
    directory.mkdir(exist_ok=True)
    certificate, key = split(pem)
    (directory / "chain.pem").write_bytes(certificate)
    (directory / "key.pem").write_bytes(key)
    return HttpSettings(
        port=0,
        tls="files",
        certificate=str(directory / "chain.pem"),
        private_key=str(directory / "key.pem"),
    )


async def shown(port: int) -> str:
    """Return the pin of the certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return certificate_pin(der)


def pin_of(pem: bytes) -> str:
    return certificate_pin(ssl.PEM_cert_to_DER_cert(split(pem)[0].decode()))


async def test_a_running_hub_takes_it_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = make_self_signed(["hub.example"]), make_self_signed(["hub.example"])
    http = write(tmp_path / "tls", old)
    monkeypatch.setattr("voicemeet_edge.hub.certificate_watch.LOOK_S", 0.05)
    async with run(replace(loopback(tmp_path / "state"), http=http)) as hub:
        assert await shown(hub.info.port) == pin_of(old)
        write(tmp_path / "tls", new)
        async with asyncio.timeout(20):
            while await shown(hub.info.port) != pin_of(new):  # noqa: ASYNC110 - the hub tells nobody
                await asyncio.sleep(0.05)


async def test_half_of_a_new_pair_is_not_used(tmp_path: Path) -> None:
    old, new = make_self_signed(["hub.example"]), make_self_signed(["hub.example"])
    http = write(tmp_path, old)
    tls = await asyncio.to_thread(hub_tls, http, tmp_path, [])
    assert tls is not None
    watch = CertificateWatch(tls, lambda: None)
    server = await asyncio.start_server(
        lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=tls.context
    )
    async with server:
        port = server.sockets[0].getsockname()[1]
        (tmp_path / "chain.pem").write_bytes(split(new)[0])
        assert not await watch.take_over()
        assert await shown(port) == pin_of(old)
        write(tmp_path, new)
        assert await watch.take_over()
        assert await shown(port) == pin_of(new)
        assert not await watch.take_over()
        (tmp_path / "key.pem").unlink()
        assert not await watch.take_over()
        assert await shown(port) == pin_of(new)


async def test_somebody_can_say_that_the_files_are_new(tmp_path: Path) -> None:
    old, new = make_self_signed(["hub.example"]), make_self_signed(["hub.example"])
    http = write(tmp_path, old)
    tls = await asyncio.to_thread(hub_tls, http, tmp_path, [])
    assert tls is not None
    renewed = asyncio.Event()
    watch = CertificateWatch(tls, renewed.set)
    task = asyncio.create_task(watch.run())
    write(tmp_path, new)
    await asyncio.sleep(0)
    watch.look_now()
    async with asyncio.timeout(20):
        await renewed.wait()
    task.cancel()
