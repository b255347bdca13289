"""The operator's page in a real browser: its codes are those of a QR library, and it forgets what it must."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import segno

from tests.hub.running import RunningHub, loopback, run
from voicemeet_edge.hub.pass_desk import make_pass, open_store
from voicemeet_edge.hub.settings import MatchSettings
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.browser import Browser, chromium_path

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SHOWN = "document.getElementById('{}')?.hidden === false"
# Bytes that a code of version 1 to 25 holds at level L (ISO/IEC 18004, table 7).
FULL = (
    *(17, 32, 53, 78, 106, 134, 154, 192, 230, 271, 321, 367, 425),
    *(458, 520, 586, 644, 718, 792, 858, 929, 1003, 1091, 1171, 1273),
)
FORMAT_MASK = 0x5412  # ISO/IEC 18004, section 7.9.1


@dataclass
class Office:
    """A hub, its operator's pass, and the page."""

    hub: RunningHub
    shown: Secret
    page: Browser


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    if chromium_path() is None:
        pytest.skip("Chromium is not installed (Debian package chromium)")
    async with open_store(tmp_path / "state") as store:
        shown = await make_pass(store, "", None, "anna")
    async with (
        run(loopback(tmp_path / "state", match=MatchSettings())) as hub,
        Browser(f"{hub.info.url}/operator/") as page,
    ):
        await page.wait_for(SHOWN.format("login"))
        yield Office(hub, shown, page)
        assert not [line for line in page.console if line.startswith("uncaught") or "security" in line]


def mask_of(rows: list[list[int]]) -> int:
    """Read a code's mask from its format bits."""
    bits = sum(rows[at][8] << at for at in range(6)) | rows[7][8] << 6 | rows[8][8] << 7 | rows[8][7] << 8
    bits |= sum(rows[8][14 - at] << at for at in range(9, 15))
    return ((bits ^ FORMAT_MASK) >> 10) & 7


async def test_codes_are_those_of_a_library_in_every_size(office: Office) -> None:
    # Each version filled to its end: what else follows the text is free, and the library fills differently.
    texts = [("a1B:" * 400)[:length] for length in FULL]
    codes = await office.page.evaluate(
        "import('/operator/qr.js').then((qr) => " + json.dumps(texts) + ".map((text) => qr.makeQr(text)))"
    )
    assert [(len(rows) - 17) // 4 for rows in codes] == list(range(1, 26))
    for version, (text, rows) in enumerate(zip(texts, codes, strict=True), 1):
        same = segno.make_qr(
            text, error="l", mode="byte", version=version, mask=mask_of(rows), boost_error=False
        )
        assert rows == [list(row) for row in same.matrix], f"version {version}"


async def test_it_signs_in_and_out_and_forgets(office: Office) -> None:
    page = office.page
    await page.evaluate("document.getElementById('operator-pass').value = 'nonsense'")
    await page.evaluate("document.getElementById('login').requestSubmit()")
    await page.wait_for(SHOWN.format("fault"))
    assert "taken back" in str(await page.evaluate("document.getElementById('fault').textContent"))
    await page.evaluate(f"document.getElementById('operator-pass').value = '{office.shown.reveal()}'")
    await page.evaluate("document.getElementById('login').requestSubmit()")
    await page.wait_for(SHOWN.format("office"))
    await page.click("#key-new")
    await page.wait_for(SHOWN.format("key-shown"))
    await page.click("#leave")
    await page.wait_for(SHOWN.format("login"))
    left = await page.evaluate("[sessionStorage.length, document.getElementById('key-plain').textContent]")
    assert left == [0, ""]
    await page.evaluate("location.reload()")
    await page.wait_for(SHOWN.format("login"))


async def test_looking_at_a_page_makes_no_store(office: Office) -> None:
    # Fails when a page makes one to look for a key: Chromium keeps a page that was left in the middle of it,
    # and the next one waits for ever.
    for name in ("operator", "desk"):
        await office.page.navigate(f"{office.hub.info.url}/{name}/")
        await office.page.wait_for("document.readyState === 'complete'")
        await office.page.wait_for(SHOWN.format("login" if name == "operator" else "start"))
        assert await office.page.evaluate("indexedDB.databases()") == []


async def test_a_desk_is_taken_back_with_two_clicks(office: Office) -> None:
    page = office.page
    await page.navigate(f"{office.hub.info.url}/operator/?1#pass={office.shown.reveal()}")
    await page.wait_for(SHOWN.format("office"))
    assert office.shown.reveal() not in str(await page.evaluate("location.href"))
    await page.click('[name="role"][value="answerer"]')
    await page.evaluate("document.getElementById('name').value = 'Reception'")
    await page.click("#add .go")
    await page.wait_for(SHOWN.format("made"))
    await page.click('[aria-label*="Reception"]')
    await page.wait_for("document.querySelector('.sure') !== null")
    await page.click('[aria-label*="Reception"]')
    await page.wait_for(SHOWN.format("gone"))
    assert "Reception" in str(await page.evaluate("document.getElementById('gone').textContent"))
    assert await page.evaluate("document.getElementById('made').hidden"), "no dead link is shown"
