"""The doctor, with a real hub and with none."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from contextlib import aclosing
from pathlib import Path

import pytest

from tests.hub.running import loopback, run
from tests.net.test_certificates import certificate
from voicemeet_edge import doctor
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.doctor import _ask_verbs, examine
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.panel import gpiod_factory
from voicemeet_edge.panel.gpiod_factory import GpiodFactory
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings
from voicemeet_edge.system.findings import Finding, Outcome
from voicemeet_edge.testing.gpio import FakeGpiod

REST = '[audio]\ncard = "virtual"\nvirtual_echo = true\n[panel]\nfactory = "mock"\n'
DIRECT = '[ice]\npolicy = "direct"\naddresses = ["127.0.0.1"]\nipv6 = false\n'


async def findings(config: Path, text: str, until: str = "") -> dict[str, Finding]:
    """Give what the doctor finds, up to this check."""
    await asyncio.to_thread(config.write_text, text)
    found = {}
    async with aclosing(examine(config)) as examination:
        async for finding in examination:
            found[finding.check] = finding
            if finding.check == until:
                break
    return found


async def test_a_device_that_is_well(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "hub")) as hub:
        backend = f'[backend]\nurl = "{hub.info.url}"\napikey = "{hub.info.apikey.reveal()}"\n'
        found = await findings(tmp_path / "device.toml", backend + REST + DIRECT)
    for check in ("settings", "name", "port", "clock", "hub", "pool", "signaling", "chirp", "panel"):
        assert found[check].outcome is Outcome.WELL, found[check]
    assert "every verb answers" in found["hub"].found
    assert found["relay"].outcome is Outcome.SKIPPED  # this hub gives none
    assert found["call"].outcome is Outcome.WELL


async def test_where_no_call_can_come_about_it_is_said(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "hub")) as hub:
        backend = f'[backend]\nurl = "{hub.info.url}"\napikey = "{hub.info.apikey.reveal()}"\n'
        found = await findings(tmp_path / "device.toml", backend + REST, until="relay")
    assert found["relay"].outcome is Outcome.FAULT  # no relay, and strangers in the pool
    assert "hub.toml" in found["relay"].advice


async def test_a_wrong_key_is_told_from_a_hub_that_is_not_there(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "hub")) as hub:
        wrong = f'[backend]\nurl = "{hub.info.url}"\napikey = "of.another.hub"\n'
        found = await findings(tmp_path / "device.toml", wrong + REST, until="hub")
        assert found["hub"].outcome is Outcome.FAULT
        assert "apikey" in found["hub"].advice
    nowhere = '[backend]\nurl = "http://127.0.0.1:1"\napikey = "a.b.c"\n'
    found = await findings(tmp_path / "device.toml", nowhere + REST, until="port")
    assert found["port"].outcome is Outcome.FAULT
    assert "does the hub run" in found["port"].advice


async def test_signaling_says_at_once_that_the_key_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECK_LIMIT_S", 3600.0)  # whoever waits for the limit fails
    async with run(loopback(tmp_path / "hub")) as hub:
        text = f'[backend]\nurl = "{hub.info.url}"\napikey = "of.another.hub"\n'
        (finding,) = await doctor._realtime(Settings.parse(text + REST))
    assert finding.found == NotConnected.BAD_APIKEY.said  # and not that nothing came within the limit


async def test_a_card_that_cannot_be_made_keeps_nobody_from_trying_the_panel(tmp_path: Path) -> None:
    text = '[backend]\nurl = "http://127.0.0.1:1"\napikey = "a.b.c"\n' + REST.replace(
        "virtual_echo = true", 'virtual_in = "/nowhere/a.wav"'
    )
    found = await findings(tmp_path / "device.toml", text)
    assert found["sound"].outcome is Outcome.FAULT
    assert "virtual_in" in found["sound"].found
    assert found["panel"].outcome is Outcome.WELL


async def test_a_wrong_file_ends_with_its_line_and_the_machine(tmp_path: Path) -> None:
    found = await findings(tmp_path / "device.toml", "[backend]\nurl = 3\n")
    assert set(found) == {"settings", "machine"}
    assert found["settings"].outcome is Outcome.FAULT
    assert "backend.url" in found["settings"].found


async def test_a_certificate_that_is_not_valid_yet_and_a_name_nobody_knows_are_said_in_words(
    tmp_path: Path,
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    pem = await asyncio.to_thread(certificate, tmp_path, now + day, now + 9 * day)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        trusting = ssl.create_default_context(cafile=str(pem))
        client = Backend(f"https://localhost:{port}", Secret("key"), tls=trusting)
        found = await _ask_verbs(client)
        await client.close()
    assert "not valid yet; this machine's clock says" in found.found
    assert "timedatectl" in found.advice
    client = Backend("https://no-such-name.invalid", Secret("key"))
    found = await _ask_verbs(client)
    await client.close()
    assert "name is not known" in found.found
    assert "DNS" in found.advice


@pytest.mark.parametrize(
    ("pressed", "outcome", "said"),
    [
        ("GPIO17", Outcome.WELL, "a press of call was seen"),
        ("GPIO27", Outcome.FAULT, "came as one of report"),
        ("", Outcome.FAULT, "no press of call was seen"),
    ],
)
async def test_a_person_who_is_there_is_asked_for_a_press(
    pressed: str, outcome: Outcome, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = FakeGpiod()
    monkeypatch.setattr(gpiod_factory, "GpiodFactory", lambda: GpiodFactory(board))
    monkeypatch.setattr(doctor, "PRESS_LIMIT_S", 60.0 if pressed else 0.2)
    settings = Settings.from_dict({"panel": {"hold_s": 10.0, "debounce_ms": 0}})
    asked: list[str] = []
    lit: list[bool] = []

    def ask(text: str) -> None:
        asked.append(text)
        lit.append(board.line("GPIO22").level)
        loop = asyncio.get_running_loop()
        if pressed:
            loop.call_soon(board.press, pressed)
            loop.call_later(0.1, board.release, pressed)

    (finding,) = await doctor._panel(settings, ask)
    assert finding.outcome is outcome
    assert said in finding.found
    assert len(asked) == 1
    assert lit == [True]
    assert not any(board.line(line).used for line in ("GPIO17", "GPIO22", "GPIO27"))


async def test_where_nobody_is_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpiod_factory, "GpiodFactory", lambda: GpiodFactory(FakeGpiod()))
    (finding,) = await doctor._panel(Settings(), None)
    assert finding.found == "its lines are there and free"
