"""`verify-hosted` against the whole stack behind the real door: all right, and each fault told apart."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.hosted.conftest import or_skip
from tests.hosted.postgres import ROOT, Postgres
from tests.hosted.stack import PUBLISHABLE, Stack, hosted
from voicemeet_edge.cli import main
from voicemeet_edge.hosted.verify import Project, Verdict, Verification, table
from voicemeet_edge.secret import Secret

pytestmark = pytest.mark.timeout(120)

DOOR_SECRET = "d" * 32
TURN = {
    "VOICEMEET_TURN": "hmac",
    "VOICEMEET_TURN_SECRET": "s",
    "VOICEMEET_TURN_URLS": "turn:turn.example:3478",
}


@pytest.fixture(scope="module")
def behind(postgres17: Postgres) -> Iterator[tuple[Stack, str]]:
    """The stack with the door in front; yields it and the door's URL."""
    serve = ROOT / "cloudflare" / "door" / "test" / "serve.mjs"
    if not (serve.parent.parent / "node_modules").is_dir():
        pytest.skip("the Workers runtime is not installed: scripts/setup test")
    extra = {"VOICEMEET_DOOR_SECRET": DOOR_SECRET}
    with or_skip(), hosted(postgres=postgres17, turn=TURN, extra=extra) as stack:
        command = ["node", str(serve), json.dumps({"": stack.url}), json.dumps({"secret": DOOR_SECRET})]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as door:
            assert door.stdout is not None
            url = door.stdout.readline().strip().rstrip("/")
            yield stack, url
            door.terminate()


def outcomes(url: str, behind: str = "", key: str = PUBLISHABLE) -> dict[str, Verdict]:
    checks = asyncio.run(Verification(Project(url, Secret(key), "public", behind)).run())
    print(table(checks))
    return {check.what: check.outcome for check in checks if check.outcome is not Verdict.LOOK}


def test_all_is_right_behind_the_door_and_nothing_is_left(behind: tuple[Stack, str]) -> None:
    stack, url = behind
    found = outcomes(url, stack.url)
    assert len(found) == 12
    assert set(found.values()) == {Verdict.OK}, found
    assert stack.sql("select count(*) from voicemeet.tickets where call_id is null") == [(0,)]
    assert stack.sql("select count(*) from voicemeet.reports") == [(0,)]
    assert stack.sql("select count(*) from voicemeet.calls where ended_a is null and ended_b is null") == [
        (0,)
    ]


def test_policies_that_are_missing(behind: tuple[Stack, str]) -> None:
    stack, url = behind
    name = '"voicemeet: hear the own call or ticket" on realtime.messages'
    stack.sql(f"alter policy {name} using (false)")
    try:
        found = outcomes(url, stack.url)
    finally:
        from tests.hosted.postgres import MIGRATIONS

        stack.postgres.migrate(stack.database, [path for path in MIGRATIONS if "channels" in path.name])
    failed = {what for what, outcome in found.items() if outcome is Verdict.FAILED}
    assert failed == {
        "Realtime takes our signing key and the policies let it in",
        "the push arrives",
        "a call's token joins its topic and speaks there",
    }


def test_a_pool_that_is_not_there_and_a_key_that_is_wrong(
    behind: tuple[Stack, str], capsys: pytest.CaptureFixture[str]
) -> None:
    _, url = behind
    assert main(["verify-hosted", "--url", url, "--apikey", PUBLISHABLE, "--pool", "nowhere"]) == 1
    shown = capsys.readouterr().out
    assert "select voicemeet.set_pool('nowhere', true)" in shown
    assert main(["verify-hosted", "--url", url, "--apikey", "wrong"]) == 1
    assert "FAILED  a device gets a token" in capsys.readouterr().out
