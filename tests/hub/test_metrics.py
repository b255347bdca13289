"""The hub's metrics, read as Prometheus reads them: they count what happened and name nobody."""

from __future__ import annotations

import asyncio
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.hub.running import loopback, new_ticket, run
from tests.ports import reserved_port
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import BackendError
from voicemeet_edge.hub.daemon import serve_hub
from voicemeet_edge.hub.figures import HubFigures
from voicemeet_edge.hub.metrics import HubCollector, on_loop
from voicemeet_edge.system.metrics import Metrics

POOL = "lobbypool"


def values(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        return str(answer.read().decode())


async def test_it_counts_what_happened_and_names_nobody(tmp_path: Path) -> None:
    async with run(loopback(tmp_path)) as hub:
        client, ticket = hub.client(), new_ticket()
        token = (await client.session()).device_token
        await client.match(token, ticket, POOL, Role.EITHER)
        with pytest.raises(BackendError):
            await client.match(type(token)("not a token"), new_ticket(), POOL, Role.EITHER)
        async with hub.http.post(f"{hub.info.url}/functions/v1/voicemeet/made-up") as answer:
            unknown = answer.status
        take = on_loop(hub.info.figures, asyncio.get_running_loop())
        text = await asyncio.to_thread(Metrics(HubCollector(take)).text)
    read = values(text)
    assert read["voicemeet_hub_alive",] == 1
    assert read["voicemeet_hub_parties_waiting",] == 1
    assert read["voicemeet_hub_connections",] >= 1
    assert read["voicemeet_hub_answers_total", "200", "session"] == 1
    assert read["voicemeet_hub_answers_total", "200", "match"] == 1
    assert read["voicemeet_hub_answers_total", "401", "match"] == 1
    assert unknown == 404
    assert read["voicemeet_hub_answers_total", "404", "other"] == 1
    assert ("voicemeet_hub_match_events_total", "made") in read
    for word in (POOL, ticket, token.reveal(), hub.info.apikey.reveal(), "127.0.0.1", "made-up"):
        assert word not in text


def test_without_a_turn_server_nothing_is_said_of_it() -> None:
    without = Metrics(HubCollector(HubFigures)).text()
    assert "coturn" not in without
    read = values(Metrics(HubCollector(lambda: HubFigures(coturn_running=False, coturn_restarts=3))).text())
    assert read["voicemeet_hub_coturn_running",] == 0
    assert read["voicemeet_hub_coturn_restarts_total",] == 3


def test_a_closed_loop_is_an_error_and_no_wait() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        on_loop(HubFigures, loop)()


async def test_the_service_serves_them_where_its_settings_say(tmp_path: Path) -> None:
    port = reserved_port()
    config = tmp_path / "hub.toml"
    config.write_text(
        f'state_dir = "{tmp_path / "state"}"\n[http]\nport = 0\ntls = "off"\nlisten = ["127.0.0.1"]\n'
        f'[turn]\nprovider = "off"\n[status]\nmetrics = "127.0.0.1:{port}"\n'
    )
    service = asyncio.create_task(serve_hub(config, print_settings=False))
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    text = await asyncio.to_thread(scrape, port)
                    break
                except OSError:
                    assert not service.done(), service
                    await asyncio.sleep(0.05)
    finally:
        service.cancel()
        await asyncio.gather(service, return_exceptions=True)
    assert values(text)["voicemeet_hub_alive",] == 1
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(scrape, port)
