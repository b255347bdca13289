"""The desk's pass in a real browser: by link once, by hand, said when it is missing, proofs as in Python."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.desk.conftest import Desks
from tests.desk.test_modules import script
from voicemeet_edge.backend.admission import admission_key, admission_key_text, as_typed
from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.keys import to_text
from voicemeet_edge.errors import BackendError
from voicemeet_edge.hub.pass_desk import desk_link, make_pass
from voicemeet_edge.hub.store import Store
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.browser import Browser, chromium_path

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

VECTORS = json.loads((Path(__file__).parents[1] / "backend" / "admission_vectors.json").read_text())
POOL = "frontdesk"
KEY = bytes(range(32))


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Desks]:
    """A hub as it is by default: every pool but `public` is closed."""
    if chromium_path() is None:
        pytest.skip("Chromium is not installed (Debian package chromium)")
    async with AsyncExitStack() as stack:
        desks = Desks(tmp_path / "hub", stack, open_pools=("public",))
        stack.push_async_callback(desks.stop_hub)
        await desks.start_hub()
        yield desks


async def store(desks: Desks) -> Store:
    store = Store(desks.state_dir / "hub.db")
    await store.open()
    desks.stack.push_async_callback(store.close)
    return store


async def known(desks: Desks, shown: Secret) -> None:
    """Wait until the hub has heard of a pass: it looks each second for what others wrote."""
    assert desks.info is not None
    backend = Backend(desks.info.url, desks.info.apikey)
    async with asyncio.timeout(20):
        while True:
            try:
                await backend.session(shown_pass=shown)
            except BackendError:
                await asyncio.sleep(0.1)
                continue
            return await backend.close()


async def open_link(desks: Desks, shown: Secret) -> Browser:
    assert desks.info is not None
    await known(desks, shown)
    link = desk_link(desks.info.url, shown, POOL).replace("/desk/#", "/desk/?test=1#")
    page = await desks.stack.enter_async_context(Browser(link))
    await page.wait_for("window.voicemeet?.model.pass")
    return page


async def test_the_link_is_opened_once_and_leaves_no_pass_in_the_address(closed: Desks) -> None:
    shown = await make_pass(await store(closed), POOL, Role.ANSWERER, "desk")
    page = await open_link(closed, shown)
    address = await page.evaluate("location.href")
    assert shown.reveal() not in str(address)
    await page.click("#start")
    await page.wait_for("voicemeet.state === 'ready'")
    await page.evaluate("location.reload()")
    await page.wait_for("window.voicemeet?.model.pass")


async def test_without_a_pass_the_page_says_so_and_with_a_typed_one_it_is_on_duty(closed: Desks) -> None:
    shown = await make_pass(await store(closed), POOL, Role.ANSWERER, "desk")
    await known(closed, shown)
    page = await closed.page()
    await page.click("#start")
    await page.wait_for("voicemeet.state === 'refused'")
    assert "pass" in str(await page.evaluate("document.getElementById('sentence').textContent"))
    await page.click("#off")
    await page.evaluate("document.getElementById('pass').value = 'not a pass'")
    await page.evaluate("document.getElementById('setup').requestSubmit()")
    await page.wait_for("document.getElementById('pass-error').textContent")
    typed = json.dumps(as_typed(shown).lower())
    await page.evaluate(f"document.getElementById('pass').value = {typed}")
    await page.evaluate("document.getElementById('setup').requestSubmit()")
    await page.wait_for("voicemeet.state === 'ready'")


async def test_a_desk_with_the_intercom_key_proves_it(closed: Desks) -> None:
    database = await store(closed)
    await database.set_admission_keys(POOL, [admission_key_text(admission_key(KEY, POOL))])
    page = await open_link(closed, await make_pass(database, POOL, Role.ANSWERER, "desk"))
    await page.click("#start")
    await page.wait_for("voicemeet.state === 'refused' && voicemeet.model.refusal === 'proof_needed'")
    await page.click("#off")
    key = to_text(KEY).reveal()
    await page.evaluate(f"import('/desk/keystore.js').then((m) => m.remember('{key}'))")
    await page.evaluate("location.reload()")
    await page.wait_for("window.voicemeet?.model.keys.length && voicemeet.model.pass")
    await page.click("#start")
    await page.wait_for("voicemeet.state === 'ready'")


async def test_passes_and_proofs_are_the_same_in_python_and_in_the_browser(closed: Desks) -> None:
    page = await closed.page()
    got = await page.evaluate(
        script(
            """
            const { makeProof, parsePass } = await import('/desk/admission.js');
            const proofs = [];
            for (const one of vectors.proofs) {
              const key = await importKey(bytes(one.intercom_key_hex));
              proofs.push(await makeProof(key, one.device_token, one));
            }
            return { proofs, passes: vectors.passes.map((one) => parsePass(one.typed)) };""",
            vectors=VECTORS,
        )
    )
    assert got == {
        "proofs": [one["proof"] for one in VECTORS["proofs"]],
        "passes": [one["pass"] for one in VECTORS["passes"]],
    }
