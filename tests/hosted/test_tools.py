"""The vendors' own command lines take what we ship."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.hosted.postgres import MIGRATIONS, ROOT, SUPABASE, Postgres

pytestmark = pytest.mark.timeout(120)

DOOR = ROOT / "cloudflare" / "door"
# What runs with its caller's rights and only its owner may call: reached through a verb, and never otherwise.
HELPERS = """
select p.proname from pg_proc p where p.pronamespace = 'voicemeet'::regnamespace and not p.prosecdef
    and not exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
                    where a.grantee <> p.proowner)"""


def command(name: str, *arguments: str, cwd: Path, timeout_s: float = 110) -> str:
    """Run a command without a network and without a home of its own; fails with what it said."""
    quiet = {
        "PATH": os.environ["PATH"], "HOME": "/tmp", "CI": "1", "NO_COLOR": "1",
        "DO_NOT_TRACK": "1", "SUPABASE_TELEMETRY_DISABLED": "1", "WRANGLER_SEND_METRICS": "false",
    }  # fmt: skip
    done = subprocess.run(
        [name, *arguments], cwd=cwd, env=quiet, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def supabase() -> str:
    for program in sorted(SUPABASE.glob("node_modules/@supabase/cli-linux-*/bin/supabase")):
        return str(program)
    pytest.skip("Supabase's command line is not installed: scripts/setup test")


def test_supabases_own_push_and_advisors(supabase: str, postgres17: Postgres, tmp_path: Path) -> None:
    database = postgres17.new_database("bare")
    url = f"{postgres17.url(database)}?sslmode=disable"
    # A copy: the tool leaves its own state beside what it reads.
    shutil.copytree(SUPABASE, tmp_path / "supabase", ignore=shutil.ignore_patterns("node_modules"))
    command(supabase, "db", "push", f"--remote={url}", "--yes", cwd=tmp_path)
    with postgres17.connect(database) as connection:
        applied = connection.execute("select version from supabase_migrations.schema_migrations order by 1")
        assert [version for (version,) in applied] == [path.name.partition("_")[0] for path in MIGRATIONS]
        assert connection.execute("select voicemeet.health()").fetchone() == ({"ok": True},)
    # Supabase's security lints: a table without row security, a definer without a search_path, and the like.
    said = command(supabase, "db", "advisors", f"--remote={url}", "--type=security", cwd=tmp_path)
    found = json.loads(said[said.index("[") : said.rindex("]") + 1])
    ours = {(one["name"], one["metadata"]["name"]) for one in found if "voicemeet" in json.dumps(one)}
    # A helper runs inside a verb's empty search_path, which costs time to set at every call.
    with postgres17.connect(database) as connection:
        helpers = {name for (name,) in connection.execute(HELPERS)}
    assert "search" in helpers
    assert ours <= {("function_search_path_mutable", name) for name in helpers}


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_door_in_the_workers_runtime() -> None:
    if not (DOOR / "node_modules").is_dir():
        pytest.skip("the Workers runtime is not installed: scripts/setup test")
    node = shutil.which("node") or "node"
    files = [f"test/{path.name}" for path in sorted((DOOR / "test").glob("*.test.mjs"))]
    # All files at once: they mostly wait, and node alone would take one for each core but one.
    said = command(
        node, "--test", "--test-timeout=100000", f"--test-concurrency={len(files)}", *files, cwd=DOOR
    )
    assert re.search(r"fail 0", said), said


def test_wrangler_takes_the_doors_settings(tmp_path: Path) -> None:
    wrangler = DOOR / "node_modules" / ".bin" / "wrangler"
    if not wrangler.exists():
        pytest.skip("wrangler is not installed: scripts/setup test")
    said = command(str(wrangler), "deploy", "--dry-run", f"--outdir={tmp_path}", cwd=DOOR)
    assert "env.REQUESTS" in said
    assert (tmp_path / "door.js").exists()
    text = re.sub(r"^\s*//.*$", "", (DOOR / "wrangler.jsonc").read_text(), flags=re.MULTILINE)
    settings = json.loads(text)
    assert settings["observability"] == {"enabled": False}
    assert settings["workers_dev"] is False
