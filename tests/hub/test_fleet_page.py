"""Health from a device to the operator's page, over a real hub."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from functools import partial
from pathlib import Path

import pytest

from tests.hub.running import loopback, run
from tests.hub.test_operator_page import Office, office
from voicemeet_edge.cli import main
from voicemeet_edge.cli_fleet import unsealed
from voicemeet_edge.fleet_seal import make_key, open_sealed
from voicemeet_edge.health_report import HealthReport, health_of, sealed_for
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import BackendSettings, Settings
from voicemeet_edge.system.board import Board
from voicemeet_edge.system.snapshot import Snapshot, take

__all__ = ["office"]


def moment(name: str = "Gate 3") -> Snapshot:
    board = Board()
    board.state = "talking"
    board.faults["microphone"] = "sound_device_lost"
    board.calls["hung_up"] = 7
    health = {"temperature_c": 51.0, "memory_mb": 66.0, "disk_free_mb": 900, "undervoltage": True}
    test = {"outcome": "passed", "age_s": 60.2, "figures": {}, "found": {}}
    return take(
        board,
        version="1.2",
        name=name,
        up_s=90.0,
        volume=80,
        sound={},
        line={"round_trip_s": 0.1},
        health=health,
        self_test=test,
    )


def test_nothing_about_calls_is_told() -> None:
    told = health_of("0" * 16, moment())
    assert told["faults"] == ["microphone", "power"]
    assert told["self_test"] == "passed"
    assert set(told) <= {
        "device", "name", "version", "up_s", "faults", "temperature_c", "memory_mb", "disk_free_mb",
        "self_test", "self_test_age_s",
    }  # fmt: skip
    assert "talking" not in str(told)


async def test_a_device_with_a_pass_is_shown_to_the_operator_and_to_nobody_else(office: Office) -> None:
    made = await office.add("caller", "Side entrance")
    backend = Settings.parse(made["settings"]).backend
    report = HealthReport(backend, moment)
    assert await report.tell()
    assert await report.tell()  # the same box
    await report.close()
    status, told = await office.ask("fleet")
    assert status == 200
    [row] = told["devices"]
    assert (row["name"], row["version"], row["temperature_c"]) == ("Gate 3", "1.2", 51.0)
    status, _ = await office.ask("fleet", shown=backend.pass_)  # a door's pass is no operator's
    assert status == 401


async def test_the_hub_gets_nothing_but_a_seal_that_the_operator_opens(office: Office) -> None:
    private, public = make_key()
    made = await office.add("caller", "Side entrance")
    report = HealthReport(Settings.parse(made["settings"]).backend, moment, public)
    assert await report.tell()
    await report.close()
    _, told = await office.ask("fleet")
    [row] = told["devices"]
    assert set(row) == {"device", "sealed", "seen_s"}
    opened = open_sealed(private, row["device"], row["sealed"])
    assert opened.pop("at") == pytest.approx(time.time(), abs=60)
    assert opened == {
        name: fact for name, fact in health_of(row["device"], moment()).items() if name != "device"
    }


async def test_the_operators_own_machine_opens_it(
    office: Office, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = make_key()
    key, shown = tmp_path / "key", tmp_path / "pass"
    key.write_text(private.reveal())
    shown.write_text(f"{office.shown.reveal()}\n")

    async def fleet(*more: str) -> tuple[int, str]:
        words = ["fleet", office.hub.info.url, "--pin", office.hub.info.pin, "--pass-file", str(shown), *more]
        status = await asyncio.to_thread(main, words)
        out, err = capsys.readouterr()
        return status, out + err

    assert await fleet() == (0, "no device tells its health there\n")
    made = await office.add("caller", "Side entrance")
    backend = Settings.parse(made["settings"]).backend
    for name, fleet_key in (("Gate 3", public), ("Open", "")):
        report = HealthReport(backend, partial(moment, name), fleet_key)
        assert await report.tell()
        await report.close()
    status, text = await fleet("--key-file", str(key))
    assert status == 1
    assert [line.split(maxsplit=1)[0] for line in text.splitlines()] == ["Gate", "Open"]
    assert text.count("out of order: microphone, power") == 2
    status, text = await fleet("--json")
    states = {row["state"] for row in json.loads(text)["devices"]}
    assert states == {"sealed: --key-file opens it", "out of order: microphone, power"}
    key.write_text(make_key()[0].reveal())
    status, text = await fleet("--key-file", str(key))
    assert "sealed with another fleet key" in text
    key.write_text("nonsense")
    assert await fleet("--key-file", str(key)) == (
        1,
        "voicemeet-edge: this is no fleet key: one has 130 letters and digits\n",
    )
    shown.write_text(backend.pass_.reveal())
    status, text = await fleet()
    assert (status, "no operator's pass" in text) == (1, True)


def test_an_old_report_shown_again_is_silence() -> None:
    private, public = make_key()
    box = health_of("0" * 16, moment())
    row = {**sealed_for(public, {**box, "faults": []}, 1_000.0), "seen_s": 5.0}
    assert unsealed(row, private, 1_060.0)["state"] == "well"
    assert unsealed(row, private, 1_000.0 + 3 * 3_600.0)["state"] == "silent for 3 h"


async def test_a_token_that_the_hub_takes_no_more_is_asked_for_anew(office: Office) -> None:
    made = await office.add("caller", "Side entrance")
    report = HealthReport(Settings.parse(made["settings"]).backend, moment)
    assert await report.tell()
    report._tokens._token = Secret("of.former.keys")
    assert not await report.tell()
    assert await report.tell()
    await report.close()


async def test_a_stranger_is_not_heard(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with run(loopback(tmp_path / "state")) as hub:
        backend = BackendSettings(url=hub.info.url, apikey=hub.info.apikey)
        report = HealthReport(backend, moment)
        with caplog.at_level(logging.WARNING):
            assert not await report.tell()
            assert not await report.tell()
    assert caplog.text.count("has the device a pass?") == 1
    assert not await report.tell()  # and of a hub that is gone nobody speaks
    await report.close()
