from __future__ import annotations

import json
from dataclasses import replace

import pytest

from voicemeet_edge.update.history import MAX_FAILED, MAX_HISTORY_BYTES, History
from voicemeet_edge.update.version import SystemVersion

VERSION = SystemVersion(0, 2, 0)


def test_it_is_read_as_it_was_written() -> None:
    history = History.new().begins(VERSION, "b", "a").fell_back("the hub was not reached", 5.0)
    history = history.begins(SystemVersion(0, 3, 0), "b", "a")
    assert History.parse(history.serialize()) == history


def test_an_update_that_proves_itself_forgets_its_failures() -> None:
    history = History.new().begins(VERSION, "b", "a").fell_back("no sound", 5.0).begins(VERSION, "b", "a")
    assert history.failure_of(VERSION) is not None
    good = history.proved()
    assert good.failure_of(VERSION) is None
    assert (good.trial, good.last, good.untold) == (None, "Updated to 0.2.0.", "0.2.0 good")


def test_failures_of_a_version_are_counted_and_their_list_is_bounded() -> None:
    history = History.new()
    for _ in range(2):
        history = history.begins(VERSION, "b", "a").fell_back("no sound", 5.0)
    failure = history.failure_of(VERSION)
    assert failure is not None
    assert failure.tries == 2
    assert history.untold == "0.2.0 bad"
    assert "taken back: no sound" in history.last
    for number in range(3 * MAX_FAILED):
        history = history.begins(SystemVersion(1, 0, number), "b", "a").fell_back("no sound", 5.0)
    assert len(history.failed) == MAX_FAILED
    assert History.parse(history.serialize()) == history


def test_without_a_trial_there_is_nothing_to_end() -> None:
    history = History.new()
    assert history.proved() == history
    assert history.fell_back("why", 1.0) == history


def test_a_new_one_has_an_id_of_its_own() -> None:
    assert History.new().device_id != History.new().device_id


GOOD = json.loads(History.new().begins(VERSION, "b", "a").serialize())


@pytest.mark.parametrize(
    "change",
    [
        {"device_id": ""},
        {"device_id": 5},
        {"postponed_until": -1},
        {"postponed_until": True},
        {"trial": {"version": "0.2.0", "slot": "a", "came_from": "a"}},
        {"trial": {"version": "x", "slot": "a", "came_from": "b"}},
        {"trial": 5},
        {"failed": 5},
        {"failed": [{"version": "0.2.0", "why": "x", "at": 1, "tries": 0}]},
        {"failed": [{}] * (MAX_FAILED + 1)},
        {"last": "two\nlines"},
    ],
)
def test_what_makes_no_sense_is_forgotten(change: dict[str, object]) -> None:
    read = History.parse(json.dumps(GOOD | change).encode())
    assert read == replace(History(), device_id=read.device_id)


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"{}", b"\xff", b" " * (MAX_HISTORY_BYTES + 1)])
def test_a_spoiled_file_is_a_new_beginning(raw: bytes) -> None:
    read = History.parse(raw)
    assert read.device_id
    assert read.trial is None
