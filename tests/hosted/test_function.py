"""The Edge Function's own checks and tests, on the newest Deno and on the hosted platform's level."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.hosted.conftest import or_skip
from tests.hosted.postgres import SUPABASE
from tests.hosted.stack import FUNCTION, deno

pytestmark = pytest.mark.timeout(120)

TESTS = SUPABASE / "tests" / "function"
OFFLINE = ["--node-modules-dir=manual", "--no-lock"]


def run(program: Path, *arguments: str) -> str:
    """Run one Deno command in `supabase/`; fails with what it said."""
    done = subprocess.run([program, *arguments], cwd=SUPABASE, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(params=["2.9", "2.1"])
def program(request: pytest.FixtureRequest) -> Path:
    with or_skip():
        return deno(request.param)


def test_types_and_its_own_tests(program: Path) -> None:
    said = run(
        program, "test", *OFFLINE, "--cached-only", "--allow-net=127.0.0.1", "--allow-env",
        str(TESTS),
    )  # fmt: skip
    assert "0 failed" in said


def test_lint_and_format() -> None:
    # One version only: each Deno formats a little differently.
    with or_skip():
        newest = deno()
    run(newest, "lint", "--quiet")
    run(newest, "fmt", "--check", "--quiet")


def test_what_is_deployed_has_exact_versions_and_no_lock_file() -> None:
    # The hosted bundler of older runtimes refuses the newer lock files.
    folder = FUNCTION.parent
    assert not list(folder.glob("*.lock"))
    imports = (folder / "deno.json").read_text()
    package = (SUPABASE / "package.json").read_text()
    assert '"pg": "npm:pg@8.23.1"' in imports
    assert '"pg": "8.23.1"' in package
