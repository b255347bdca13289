"""The installer's day: from nothing, by documented commands and clicks only, to two doors and two desks.

Each `step` is one thing the documents tell a person to do; their number is printed, and may not grow over 12.
With VOICEMEET_PICTURES=1 the pictures of the documents are written anew.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import ssl
import sys
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from voicemeet_edge.demo.remote import RemoteDevice
from voicemeet_edge.settings import Settings
from voicemeet_edge.testing.browser import Browser, chromium_path
from voicemeet_edge.testing.firefox import Firefox, firefox_path

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]

ROOT = Path(__file__).parents[2]
MOST_STEPS = 12
SHOWN = "!document.getElementById('{}').hidden"


class Building:
    """What there is so far, and how many steps it took."""

    def __init__(self, place: Path, stack: AsyncExitStack, browser: str, port: int) -> None:
        self.place, self.stack, self.port = place, stack, port
        self.is_firefox = browser == "firefox"
        self.config = place / "hub.toml"
        self.downloads = place / "downloads"
        self.downloads.mkdir()
        self.steps: list[str] = []
        self.trusted = ""
        self.tasks: list[asyncio.Task[None]] = []

    def step(self, what: str) -> None:
        """Count one more thing to do."""
        self.steps.append(what)
        print(f"  {len(self.steps):2}. {what}", flush=True)

    async def run(self, *words: str) -> str:
        """Run a command of the documents to its end and return what it prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicemeet_edge", *words, stdout=-1, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    async def start_hub(self) -> None:
        """Do what the service does: run the hub with the template's settings, but for place and port."""
        text = (ROOT / "firmware" / "hub.toml").read_text()
        for old, new in (
            ('state_dir = "/var/lib/voicemeet-hub"', f'state_dir = "{self.place / "state"}"'),
            ('listen = ["0.0.0.0"]', 'listen = ["127.0.0.1"]'),
            ("#port = 8443", f"port = {self.port}"),
            ('provider = "coturn"', 'provider = "off"'),
        ):
            assert old in text, old
            text = text.replace(old, new, 1)
        await asyncio.to_thread(self.config.write_text, text)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicemeet_edge", "hub", "--config", str(self.config), stdout=-1, stderr=-1
        )
        self.stack.push_async_callback(_end, process)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b"The desk page is at" not in await process.stdout.readline():
                pass
        self.trusted = await asyncio.to_thread(self._spki)

    def _spki(self) -> str:
        """Return what Chromium wants to know of a certificate that a kiosk trusts (docs/certificates.md)."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.port))
        key = x509.load_pem_x509_certificate(pem.encode()).public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(der).digest()).decode()

    async def browser(self, url: str, size: tuple[int, int] = (1100, 900)) -> Browser:
        """Open a link in a fresh browser that trusts the hub's certificate, as on another computer."""
        if self.is_firefox:
            page: Browser = Firefox(url, insecure=True, downloads=self.downloads)
        else:
            flags = [f"--ignore-certificate-errors-spki-list={self.trusted}"]
            page = Browser(url, size=size, flags=flags, downloads=self.downloads)
        return await self.stack.enter_async_context(page)

    async def saved(self) -> Path:
        """Wait for the settings file that a click saved, and take it away as onto a card."""
        file = self.downloads / "voicemeet.toml"
        async with asyncio.timeout(30):
            while not (file.exists() and "[security]" in await asyncio.to_thread(file.read_text)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        card = self.place / f"card{len(self.steps)}.toml"
        return await asyncio.to_thread(file.replace, card)

    async def door(self, card: Path) -> RemoteDevice:
        """Switch a door on with what is on its card; sound and buttons are this machine's doubles."""
        table = tomllib.loads(await asyncio.to_thread(card.read_text))
        Settings.from_dict(table)
        table["audio"] = {"card": "virtual", "echo": "off"}
        table["ice"] = {"policy": "direct", "addresses": ["127.0.0.1"], "ipv6": False}
        table["panel"] = {"factory": "none"}
        device = await RemoteDevice.start(table, self.place, card.stem)
        self.stack.push_async_callback(device.stop)
        await device.expect("lamp", 60, lamp="ready")
        return device


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    await process.communicate()


@asynccontextmanager
async def building(place: Path, browser: str, port: int) -> AsyncIterator[Building]:
    async with AsyncExitStack() as stack:
        yield Building(place, stack, browser, port)


async def add(page: Browser, role: str, name: str) -> str:
    """Add a door or a desk by clicks; returns the line or link that is shown."""
    await page.click(f'[name="role"][value="{role}"]')
    await page.evaluate("document.getElementById('name').focus()")
    await page.evaluate(f"document.getElementById('name').value = '{name}'")
    await page.click("#add .go")
    await page.wait_for(f"document.getElementById('made-title').textContent === '{name}'")
    return str(await page.evaluate("document.getElementById('made-text').textContent"))


def picture(name: str, tmp_path: Path) -> Path:
    """Return where a picture goes: into the documents only when asked for."""
    return (ROOT / "docs" / "images" if os.environ.get("VOICEMEET_PICTURES") else tmp_path) / name


async def put_up_doors(site: Building, office: Browser, pictures: Path) -> list[RemoteDevice]:
    """Make two doors on the operator's page, and plug them in."""
    doors = []
    for name in ("Side entrance", "Main gate"):
        site.step(f"a door, “{name}”, “Add”, “Save voicemeet.toml” onto its card")
        await add(office, "caller", name)
        await office.click("#made-file")
        card = await site.saved()
        if name == "Main gate" and not site.is_firefox:
            await office.screenshot(picture("operator-door.png", pictures))
        site.step("put the card into the device, plug it in: the lamp glows")
        doors.append(await site.door(card))
    return doors


async def open_desks(site: Building, office: Browser, pictures: Path) -> list[Browser]:
    """Make two desks on the operator's page, and go on duty at both."""
    desks = []
    for name in ("Reception", "Office"):
        site.step(f"a desk, “{name}”, “Add”")
        desk_link = await add(office, "answerer", name)
        if name == "Office" and not site.is_firefox:
            await office.screenshot(picture("operator-desk.png", pictures))
        site.step("open its link there, “Go on duty”")
        desk = await site.browser(desk_link.replace("/desk/#", "/desk/?test=1#"))
        await desk.wait_for("window.voicemeet?.model.pass && voicemeet.model.keys.length")
        await desk.click("#start")
        await desk.wait_for("voicemeet.state === 'ready'")
        desks.append(desk)
    if not site.is_firefox:
        await office.click("#made-done")
        await office.evaluate("scrollTo(0, 0)")
        await office.screenshot(picture("operator-list.png", pictures))
    return desks


async def answer_each_door(site: Building, doors: list[RemoteDevice], desks: list[Browser]) -> None:
    """Press at each door; another desk answers each time, and the one that did not is told."""
    site.step("press a door's button, answer at a desk, talk")
    for door in doors:
        await door.press()
        for desk in desks:
            await desk.wait_for("voicemeet.state === 'ringing'", 60)
        await desks[0].evaluate("document.getElementById('answer').click()")
        await desks[0].wait_for("voicemeet.state === 'talking'")
        await desks[1].wait_for("voicemeet.model.last?.reason === 'answered_elsewhere'")
        await door.state("talking")
        assert await desks[0].evaluate("voicemeet.model.call.envelope.sealed") is True
        await desks[0].evaluate("document.getElementById('hangup').click()")
        await door.state("idle", 60)
        for desk in desks:
            await desk.wait_for("voicemeet.state === 'ready'", 60)
        desks.reverse()  # each answers once


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
async def test_from_nothing_to_two_doors_and_two_desks(
    tmp_path: Path, unused_tcp_port: int, browser: str
) -> None:
    if (firefox_path() if browser == "firefox" else chromium_path()) is None:
        pytest.skip(f"{browser} is not installed")
    async with building(tmp_path, browser, unused_tcp_port) as site:
        print(f"\nan installer's steps, in {browser}:")
        site.step("sudo make install-hub")
        await site.start_hub()
        told = await site.run("pass", "--config", str(site.config), "--operator", "--label", "first operator")
        link = next(word for word in told.split() if "/operator/#pass=" in word)

        site.step("open the link that it prints")
        office = await site.browser(link, (1100, 1250))
        await office.wait_for(SHOWN.format("office"))
        assert urlsplit(str(await office.evaluate("location.href"))).fragment == ""
        await office.evaluate(
            "(() => { window.sent = []; const real = fetch; window.fetch = (url, options) => {"
            " sent.push(`${url} ${options?.body ?? ''}`); return real(url, options); }; })()"
        )

        site.step("“Make a new key”, and write it down")
        await office.click("#key-new")
        await office.wait_for(SHOWN.format("key-shown"))
        key = str(await office.evaluate("document.getElementById('key-plain').textContent"))

        doors = await put_up_doors(site, office, tmp_path)
        desks = await open_desks(site, office, tmp_path)
        await answer_each_door(site, doors, desks)

        sent = await office.evaluate("window.sent")
        assert any("Side entrance" in text for text in sent)
        assert not [text for text in sent if key in text]
        everything = b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir() if path.is_file())
        assert key.encode() not in everything
        print(f"  {len(site.steps)} steps")
        assert len(site.steps) <= MOST_STEPS
