"""Looking into a hub's reports: the list, holding, releasing, and what is said when there is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.pass_desk import DATABASE_FILE
from voicemeet_edge.hub.reports import look_into_reports, table
from voicemeet_edge.hub.store import Report, Store

DAY_S = 86_400.0
NOW = 1_800_000_000.0
REPORTS = [
    Report("r-old", "aabbccddeeff00112233", "button", int(NOW - 20 * DAY_S)),
    Report("r-new", None, "button", int(NOW - DAY_S), held=True),
]


async def hub_with(reports: list[Report], directory: Path) -> Path:
    state = directory / "state"
    state.mkdir()
    store = Store(state / DATABASE_FILE)
    await store.open()
    for report in reports:
        assert await store.add_report(report)
    await store.close()
    config = directory / "hub.toml"
    config.write_text(f'state_dir = "{state}"\n')
    return config


def test_the_newest_comes_first_with_the_days_it_is_kept() -> None:
    lines = table(REPORTS, 30.0, NOW).splitlines()
    assert lines[1].startswith("r-new")
    assert lines[1].endswith("held")
    assert "unknown" in lines[1]
    assert lines[2].endswith("10 more days")
    assert "aabbccddeeff" in lines[2]
    assert "00112233" not in lines[2]


def test_no_reports_are_said_to_be_none() -> None:
    assert table([], 30.0, NOW) == "no reports"


async def test_a_report_is_held_and_released(tmp_path: Path) -> None:
    config = await hub_with(REPORTS[:1], tmp_path)
    assert "held" in await look_into_reports(config, hold="r-old")
    assert "held" in await look_into_reports(config)
    assert "held" not in await look_into_reports(config, release="r-old")


async def test_an_unknown_receipt_and_a_hub_that_never_ran_are_said(tmp_path: Path) -> None:
    config = await hub_with([], tmp_path)
    with pytest.raises(LocalError, match="no report with the receipt nothing"):
        await look_into_reports(config, hold="nothing")
    other = tmp_path / "other.toml"
    other.write_text(f'state_dir = "{tmp_path}/elsewhere"\n')
    with pytest.raises(LocalError, match="no hub has run"):
        await look_into_reports(other)
