"""The parts of `make test` are the whole: each test is in one of them, and in no other."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

from tests.conftest import (
    ALONE,
    LONG,
    TESTS,
    TOGETHER,
    Marks,
    pytest_collection_modifyitems,
    pytest_ignore_collect,
)

PARTS = ("QUICK", "BESIDE", "ALONE")
SLOW = ("system", "namespaces", "machine")


def test_every_test_is_in_one_part() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    found = dict(re.findall(r"^(\w+) := (.+)$", makefile, re.MULTILINE))
    parts = [Expression.compile(found[name]) for name in PARTS]
    for marks in itertools.product((False, True), repeat=len(SLOW)):
        for alone in {False, any(marks)}:  # the rest needs nothing, and so never the machine to itself
            has = {**dict(zip(SLOW, marks, strict=True)), "alone": alone}
            assert sum(part.evaluate(Marks(has)) for part in parts) == 1, has


@pytest.mark.system
def test_tests_of_one_kind_go_to_one_worker() -> None:
    words = "-m pytest -v -n 2 --dist loadgroup tests/desk/test_reasons.py tests/test_secret.py"
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *words.split()],
        cwd=TESTS.parent, env=outside, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    workers = re.findall(r"^\[(gw\d)\].*PASSED tests/desk/", done.stdout, re.MULTILINE)
    assert len(workers) > 1
    assert len(set(workers)) == 1, "one kind"
    others = re.findall(r"^\[(gw\d)\].*PASSED tests/test_secret", done.stdout, re.MULTILINE)
    assert set(others) != set(workers), "and the rest where there is room"


def test_what_is_named_is_there() -> None:
    assert [place for place in (*ALONE, *LONG, *TOGETHER) if not (TESTS / place).exists()] == []


def test_every_file_of_the_images_is_named_where_they_are_run() -> None:
    makefile = (TESTS.parent / "Makefile").read_text()
    there = sorted(f"tests/image/{path.name}" for path in (TESTS / "image").glob("test_*.py"))
    assert sorted(re.findall(r"tests/image/test_\w+\.py", makefile)) == there


@pytest.mark.parametrize(
    ("expression", "is_left_out"),
    [("not system and not machine", True), ("system", False), ("machine", False), ("", False), ("x", False)],
)
def test_a_folder_of_which_nothing_runs_is_not_read(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, expression: str, is_left_out: bool
) -> None:
    monkeypatch.setattr(pytestconfig.option, "markexpr", expression)
    assert bool(pytest_ignore_collect(TESTS / "system", pytestconfig)) is is_left_out
    assert pytest_ignore_collect(TESTS / "voice", pytestconfig) is None


@pytest.mark.parametrize(
    ("file", "quick", "beside", "alone"),
    [
        ("test_secret.py", True, False, False),
        ("test_parts.py", True, True, False),
        ("webrtc/test_turn.py", True, True, False),
        ("audio/test_alsa.py", True, False, True),
        ("desk/test_calls.py", True, True, True),  # its folder was asked before
    ],
)
def test_a_file_is_read_in_the_parts_that_may_run_something_of_it(
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    quick: bool,
    beside: bool,
    alone: bool,
) -> None:
    makefile = (TESTS.parent / "Makefile").read_text()
    parts = dict(re.findall(r"^(\w+) := (.+)$", makefile, re.MULTILINE))
    for part, is_read in zip(PARTS, (quick, beside, alone), strict=True):
        monkeypatch.setattr(pytestconfig.option, "markexpr", parts[part])
        assert (pytest_ignore_collect(TESTS / file, pytestconfig) is None) is is_read, part


def test_a_mark_that_the_file_does_not_name_is_refused(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request.node, "path", TESTS / "test_secret.py")
    pytest_collection_modifyitems([request.node])
    request.node.add_marker("namespaces")
    with pytest.raises(pytest.UsageError, match="name its mark"):
        pytest_collection_modifyitems([request.node])
