"""Clocks that are set right, or wrong, in the middle of a call; and a hub that gives a call's id again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.attacks import lab
from tests.attacks.lab import WAIT_S, Hub, end_reason, hub_process, new_key, pair
from voicemeet_edge.testing.hostile import DeviceSocket, HostileCarrier, Payload

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

DAYS_S = 3 * 86_400

# The wall clock of a process, as far off as a file says: this machine's own is everybody's.
STEPPING = """
import os, time
_true = time.time
def _stepping():
    try:
        with open({file!r}) as file:
            return _true() + float(file.read() or 0)
    except OSError:
        return _true()
time.time = _stepping
"""


async def ask(hub: Hub, verb: str, token: str, **body: object) -> tuple[int, dict[str, object]]:
    """Send a verb with a call's token."""
    headers = {"apikey": hub.apikey.reveal(), "Authorization": f"Bearer {token}"}
    url = f"{hub.url}/functions/v1/voicemeet/{verb}"
    async with aiohttp.ClientSession() as http, http.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_clock_that_steps_by_days_loses_no_call_and_no_report_and_revives_nothing(
    tmp_path: Path,
) -> None:
    # Fails when the hub dates calls and tokens by time.time (`unix` in hub/verbs.py).
    offset, site = tmp_path / "offset", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(STEPPING.format(file=str(offset)))
    stepping = {"PYTHONPATH": str(site)}
    with hub_process(tmp_path, prefix=("env", f"PYTHONPATH={site}")) as hub:
        async with pair(hub, tmp_path, environment=stepping) as devices:
            await devices.call()
            assert devices.carrier is not None
            tokens = {slot: devices.carrier.match(slot).token.reveal() for slot in ("a", "b")}
            for step in (DAYS_S, -DAYS_S):
                offset.write_text(str(step))
                for token in tokens.values():
                    status, reply = await ask(hub, "renew", token)
                    assert status == 200, reply
            before = (await devices.first.stats())["media"]["packets_received"]
            while (await devices.first.stats())["media"]["packets_received"] <= before:
                pass
            offset.write_text(str(DAYS_S))
            await devices.first.press("report")
            await devices.first.expect("report", WAIT_S, report="sent")
            await devices.expect("state", state="idle")
            for token in tokens.values():
                assert (await ask(hub, "ended", token, seconds=1))[0] == 200
            for step in (DAYS_S, 0, -DAYS_S):
                offset.write_text(str(step))
                for token in tokens.values():
                    status, reply = await ask(hub, "renew", token)
                    assert status in (401, 410), "a call that is over stays over"


class Repeating(HostileCarrier):
    """A hub that gives the first match again, and says in that call what was said in the first one."""

    def __init__(self, hub_url: str) -> None:
        super().__init__(hub_url)
        self.is_repeating = False
        self.first: dict[str, bytes] = {}
        self.old: dict[str, list[tuple[str, Payload]]] = defaultdict(list)

    async def _verb(self, request: web.Request) -> web.Response:
        who = request.headers.get("authorization", "")
        verb = request.match_info["verb"]
        if verb == "ended":
            return web.json_response({"ok": True})  # or the hub would not let them in again
        if verb == "match" and self.is_repeating:
            return web.Response(body=self.first[who], content_type="application/json")
        answer = await super()._verb(request)
        if verb == "match" and isinstance(answer.body, bytes) and b'"matched"' in answer.body:
            self.first[who] = answer.body
        return answer

    def repeat(self) -> None:
        """From now on."""
        for line in self.lines:
            self.old[line.slot] += line.said
            line.said = []
        self.is_repeating = True
        self.tamper = self.yesterday

    def yesterday(self, line: DeviceSocket, _event: str, payload: Payload) -> Iterable[tuple[str, Payload]]:
        """Whatever the other end says: deliver all it said in the first call."""
        return [*self.old[str(payload.get("slot"))]]


async def test_two_devices_obey_nothing_of_a_call_whose_id_is_given_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fails when the keys hang on the call id alone (no freshness in _direction, signaling/sealed.py).
    monkeypatch.setattr(lab, "HostileCarrier", Repeating)
    key = new_key()
    async with pair(hub, tmp_path, keys=(key, key)) as devices:
        carrier = devices.carrier
        assert isinstance(carrier, Repeating)
        await devices.call()
        await devices.hang_up()
        carrier.repeat()
        assert {event for said in carrier.old.values() for event, _ in said} >= {"hello", "offer", "answer"}
        for device in devices.both:
            device.mark()
        await devices.press()
        await devices.expect("state", state="ended")
        said = {event for line in carrier.lines for event, _ in line.said}
    assert said <= {"hello", "bye"}, "neither offers nor answers"
    assert {end_reason(device) for device in devices.both} <= {"wrong_key", "peer_absent"}
