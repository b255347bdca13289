"""The fleet key in a real browser: made and kept there; what a device sealed for it is opened there."""

from __future__ import annotations

from functools import partial

import pytest

from tests.hub.test_fleet_page import moment
from tests.hub.test_operator_browser import SHOWN, Office, office
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.fleet_seal import make_key, open_sealed, seal
from voicemeet_edge.health_report import HealthReport
from voicemeet_edge.hub.pass_desk import make_pass
from voicemeet_edge.hub.store import Store
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import BackendSettings

__all__ = ["office"]

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

FIRST_ROW = "document.querySelector('#fleet-list tbody tr')?.textContent ?? ''"


async def text_of(office: Office, element: str) -> str:
    return str(await office.page.evaluate(f"document.getElementById('{element}').textContent"))


async def sign_in(office: Office) -> None:
    await office.page.evaluate(f"document.getElementById('operator-pass').value = '{office.shown.reveal()}'")
    await office.page.evaluate("document.getElementById('login').requestSubmit()")
    await office.page.wait_for(SHOWN.format("office"))


async def tell(office: Office, shown: Secret, name: str, fleet_key: str) -> None:
    info = office.hub.info
    backend = BackendSettings(url=info.url, apikey=info.apikey, tls_pin=info.pin, pass_=shown)
    report = HealthReport(backend, partial(moment, name), fleet_key)
    assert await report.tell()
    await report.close()


async def test_a_key_made_here_opens_what_devices_seal_and_nobody_reads_it_again(
    office: Office,
) -> None:
    store = Store(office.hub.settings.state_dir / "hub.db")
    await store.open()
    shown = await make_pass(store, "frontdesk", Role.CALLER, "gate")
    await store.close()
    page = office.page
    await sign_in(office)
    await page.wait_for(SHOWN.format("fleet-none"))
    await page.evaluate("document.getElementById('fleet-key-new').click()")
    await page.wait_for(SHOWN.format("fleet-key-shown"))
    private = Secret(await text_of(office, "fleet-key-plain"))
    lines = await text_of(office, "fleet-key-lines")
    public = lines.split('"')[1]
    assert private.reveal() not in lines
    assert open_sealed(private, "0" * 16, seal(public, "0" * 16, {"a": 1})) == {"a": 1}  # a pair for all ends

    await tell(office, shown, "Gate 3 – Süd", public)
    await page.evaluate("location.reload()")
    await page.wait_for(f"({FIRST_ROW}).includes('Gate 3 – Süd')")
    assert "out of order: microphone, power" in str(await page.evaluate(FIRST_ROW))
    assert await text_of(office, "fleet-key-plain") == ""
    kept = await page.evaluate(
        "import('/operator/fleet_key.js').then((m) => m.fleetKey())"
        ".then((key) => crypto.subtle.exportKey('jwk', key.private)).then(() => 'given', () => 'refused')"
    )
    assert kept == "refused"

    await page.evaluate("document.getElementById('fleet-key-forget').click()")
    await page.wait_for(f"({FIRST_ROW}).includes('type the fleet key')")
    assert "Gate 3" not in str(await page.evaluate(FIRST_ROW))
    for text, sign in ((make_key()[0], "another fleet key"), (private, "Gate 3 – Süd")):
        await page.evaluate("document.getElementById('fleet-key-type').click()")
        await page.evaluate(f"document.getElementById('fleet-key-text').value = '{text.reveal()}'")
        await page.evaluate("document.getElementById('fleet-key-form').requestSubmit()")
        await page.wait_for(f"({FIRST_ROW}).includes('{sign}')")


async def test_what_is_no_key_is_said_and_an_old_report_is_silence(office: Office) -> None:
    page = office.page
    await sign_in(office)
    await page.evaluate("document.getElementById('fleet-key-type').click()")
    await page.evaluate("document.getElementById('fleet-key-text').value = 'nonsense'")
    await page.evaluate("document.getElementById('fleet-key-form').requestSubmit()")
    await page.wait_for(SHOWN.format("fault"))
    assert "no fleet key" in await text_of(office, "fault")
    private, public = make_key()
    sealed = seal(public, "0" * 16, {"name": "Ä", "faults": [], "at": 5})
    opened = await page.evaluate(
        "import('/operator/fleet_seal.js').then(async (m) => m.openSealed("
        f"await m.parseFleetKey('{private.reveal()}'), '{'0' * 16}', '{sealed}'))"
    )
    assert opened == {"name": "Ä", "faults": [], "at": 5}
