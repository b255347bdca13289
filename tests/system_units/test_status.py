"""The status socket, asked as people and programs ask it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from voicemeet_edge.call.machine import State
from voicemeet_edge.call.observed import BackendChanged, ConnectionFault, Started, StateChanged
from voicemeet_edge.cli import EX_TEMPFAIL, main
from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.system import status as status_module
from voicemeet_edge.system.board import Board
from voicemeet_edge.system.snapshot import Snapshot, table, take
from voicemeet_edge.system.status import MAX_ASKERS, StatusServer, ask


def moment(board: Board | None = None) -> Snapshot:
    return take(
        board or Board(),
        version="1.2.3",
        name="Gate 3",
        up_s=90.0,
        volume=80,
        sound={"frames_sent": 5},
        line=None,
        health={"temperature_c": 51.2, "memory_mb": 66.0, "disk_free_mb": 900, "undervoltage": False},
        self_test=None,
    )


class Moments:
    """A device that can change."""

    def __init__(self) -> None:
        self.board = Board()

    def __call__(self) -> Snapshot:
        return moment(self.board)


@asynccontextmanager
async def served(path: Path, snapshot: Moments) -> AsyncIterator[None]:
    server = StatusServer(snapshot, lambda: "voicemeet_up_seconds 90.0\n", path)
    await server.start()
    try:
        yield
    finally:
        await server.close()
    assert not await asyncio.to_thread(path.exists)


async def answered(path: Path) -> None:
    """Ask again and again, until there is a place."""
    async with asyncio.timeout(20):
        while True:
            try:
                if await asyncio.to_thread(lambda: list(ask("status", path))):
                    return
            except EnvironmentFault:  # turned away just now
                pass
            await asyncio.sleep(0.01)


async def test_one_question_one_answer(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    async with served(path, Moments()):
        (line,) = await asyncio.to_thread(lambda: list(ask("status", path)))
        assert json.loads(line) == moment()
        assert await asyncio.to_thread(lambda: list(ask("metrics", path))) == ["voicemeet_up_seconds 90.0"]
        assert await asyncio.to_thread(lambda: list(ask("reboot", path))) == []


def test_a_person_reads_why_and_what_to_do() -> None:
    board = Board()
    for event in (Started(), BackendChanged(False), ConnectionFault(NotConnected.BAD_APIKEY)):
        board.observe(event)
    taken = moment(board)
    assert taken["not_connected"] == "bad_apikey"
    rows = [line.split(maxsplit=1) for line in table(taken).splitlines()]
    assert ["why", NotConnected.BAD_APIKEY.said] in rows
    assert ["→", NotConnected.BAD_APIKEY.cure] in rows
    board.observe(ConnectionFault(None))
    assert "why" not in table(moment(board))


async def test_watching_tells_changes_and_only_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "WATCH_S", 0.01)
    path, moments = tmp_path / "status.sock", Moments()
    async with served(path, moments):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"watch\n")
        assert json.loads(await reader.readline())["sentence"] == "Starting"
        moments.board.observe(Started())
        assert json.loads(await reader.readline())["sentence"].startswith("Waiting")
        writer.close()


async def test_watchers_that_have_gone_leave_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fails when only an answer shows that nobody is there: of an idle device there is none for hours.
    monkeypatch.setattr(status_module, "WATCH_S", 0.01)
    path = tmp_path / "status.sock"
    async with served(path, Moments()):
        for _ in range(MAX_ASKERS):
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"watch\n")
            await reader.readline()
            writer.close()
        await answered(path)


async def test_too_many_askers_are_turned_away_and_none_harms_the_next(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    async with served(path, Moments()):
        silent = [await asyncio.open_unix_connection(str(path)) for _ in range(MAX_ASKERS)]
        reader, writer = await asyncio.open_unix_connection(str(path))  # taken after those before it
        assert await reader.read() == b""
        writer.close()
        for word in ("status", "watch", "metrics"):
            with pytest.raises(EnvironmentFault, match="too many ask at once"):
                await asyncio.to_thread(list, ask(word, path))
        for _, writer in silent:
            writer.close()
        await answered(path)


async def test_a_word_without_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    async with served(path, Moments()):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"s" * 1000)
        assert await reader.read() == b""
        writer.close()


def test_without_a_device_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no device runs here"):
        list(ask("status", tmp_path / "none"))


async def test_what_an_old_process_left_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    async with served(path, Moments()):
        assert await asyncio.to_thread(lambda: list(ask("status", path)))


def test_the_table_is_for_people() -> None:
    board = Board()
    board.observe(Started())
    board.observe(BackendChanged(True))
    board.observe(StateChanged(State.ENDED, 1.0, EndReason.HUNG_UP))
    board.observe(StateChanged(State.IDLE, 2.0))
    text = table(moment(board) | {"self_test": {"outcome": "passed", "age_s": 7200.0}})
    assert text.splitlines()[0] == "doing       Ready: press call"
    assert "calls       1 (hung_up 1)" in text
    assert "machine     51 °C, 66 MB, 900 MB of disk free" in text
    assert "self-test   passed, 2.0 h ago" in text
    assert text.splitlines()[-1] == "running     1.5 min, version 1.2.3"


async def test_the_devices_own_test_is_asked_for_by_its_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "status.sock"
    outcomes = ["well", "fault", "busy"]

    async def test() -> dict[str, object]:
        outcome = outcomes.pop(0)
        row = {"check": "call", "outcome": outcome, "found": "with itself", "advice": ""}
        return {"outcome": outcome, "findings": [row] if outcome != "busy" else [], "figures": {}}

    server = StatusServer(Moments(), str, path, test=test)
    await server.start()
    words = ["self-test", "--socket", str(path)]
    assert await asyncio.to_thread(main, words) == 0
    assert "with itself" in capsys.readouterr().out
    assert await asyncio.to_thread(main, [*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "fault"
    assert await asyncio.to_thread(main, words) == EX_TEMPFAIL
    await server.close()
    assert await asyncio.to_thread(main, words) == 1
    assert "no device runs here" in capsys.readouterr().err
