"""The audit of the lock files, against a database of our own that knows one hole."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web import Answers, serving

ROOT = Path(__file__).parent.parent


class Database:
    def __init__(self) -> None:
        self.holes: dict[str, str] = {}
        self.asked: list[dict[str, object]] = []
        self.url = ""


@pytest.fixture
def database() -> Iterator[Database]:
    known = Database()

    class Handler(Answers):
        def do_POST(self) -> None:  # noqa: N802 - its name there
            queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            known.asked += queries
            hits = [known.holes.get(query["package"]["name"]) for query in queries]
            results = [{"vulns": [{"id": hit}]} if hit else {} for hit in hits]
            body = json.dumps({"results": results}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with serving(Handler) as known.url:
        yield known


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/audit"), "--url", url],
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_kind_of_lock_is_asked_about(database: Database) -> None:
    done = audit(database.url)
    assert done.returncode == 0, done.stderr
    ecosystems = {str(query["package"]["ecosystem"]) for query in database.asked}  # type: ignore[index]
    assert ecosystems == {"PyPI", "npm", "Debian:13"}
    names = {str(query["package"]["name"]) for query in database.asked}  # type: ignore[index]
    assert {"aiohttp", "systemd"} <= names
    assert "0 known holes" in done.stdout


def test_a_hole_that_nobody_explained_fails_it(database: Database) -> None:
    database.holes = {"aiohttp": "GHSA-xxxx"}
    done = audit(database.url)
    assert done.returncode == 1
    assert "GHSA-xxxx  aiohttp" in done.stdout
    assert "NOT EXPLAINED" in done.stdout


def test_what_the_vex_explains_is_told_and_passes(database: Database) -> None:
    statement = json.loads((ROOT / "image-build/vex.json").read_text())["statements"][0]
    database.holes = {"systemd": f"DEBIAN-{statement['vulnerability']['name']}"}
    done = audit(database.url)
    assert done.returncode == 0
    assert "not_affected: " in done.stdout


def test_without_an_answer_it_says_so() -> None:
    done = audit("http://127.0.0.1:1")
    assert done.returncode == 2
    assert "did not answer" in done.stderr


def test_every_statement_of_the_vex_says_why() -> None:
    vex = json.loads((ROOT / "image-build/vex.json").read_text())
    for statement in vex["statements"]:
        assert statement["products"]
        if statement["status"] == "not_affected":
            assert statement["justification"]
            assert statement["impact_statement"]
