"""The SQL on real servers: pgTAP, migrations in every order, crash, and the clock that purges."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.hosted.postgres import MIGRATIONS, SUPABASE, Postgres


def pg_prove(server: Postgres, name: str, user: str) -> None:
    """Run one pgTAP file in a database of its own."""
    if shutil.which("pg_prove") is None:
        pytest.skip("pg_prove is not installed: scripts/setup test")
    database = server.new_database()
    with server.connect(database, "supabase_admin") as admin:
        admin.execute("create schema tap; grant usage on schema tap to public")
        admin.execute("create extension pgtap with schema tap")
        admin.execute(f'alter database "{database}" set search_path = public, tap')
    command = ["pg_prove", "-h", "127.0.0.1", "-p", str(server.port), "-U", user, "-d", database]
    run = subprocess.run([*command, SUPABASE / "tests" / name], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_rights(postgres: Postgres) -> None:
    pg_prove(postgres, "rights.sql", "supabase_admin")


def test_rules(postgres: Postgres) -> None:
    pg_prove(postgres, "rules.sql", "postgres")


def test_migrations_apply_twice_and_from_every_earlier_one(postgres17: Postgres) -> None:
    for applied in range(1, len(MIGRATIONS) + 1):
        database = postgres17.new_database("bare")
        postgres17.migrate(database, MIGRATIONS[:applied])
        with postgres17.connect(database) as connection:
            connection.execute("insert into voicemeet.reports (receipt, reason) values ('kept', 'abuse')")
            connection.execute("update voicemeet.settings set max_call_s = 1234")
            postgres17.migrate(database)
            postgres17.migrate(database)
            kept = connection.execute("select max_call_s from voicemeet.settings").fetchall()
            assert kept == [(1234.0,)]
            assert connection.execute("select receipt from voicemeet.reports").fetchall() == [("kept",)]
            assert connection.execute("select voicemeet.health()").fetchone() == ({"ok": True},)


def test_migrations_ask_for_nothing_that_the_platform_refuses() -> None:
    text = "\n".join(path.read_text() for path in MIGRATIONS).lower()
    # `postgres` may make policies there and nothing else; the stand-in cannot refuse as the platform does.
    assert not re.search(r"alter\s+table\s+realtime\.", text)
    assert not re.search(r"create\s+(or\s+replace\s+)?(table|function|view|index|trigger)\s+realtime\.", text)
    assert not re.search(r"in\s+schema\s+realtime", text)
    # With `in schema` it can only add rights, and takes none away.
    assert "default privileges in schema" not in text
    for path in MIGRATIONS:
        creates = re.search(r"create or replace function voicemeet\.", path.read_text())
        revokes = "revoke execute on all functions in schema voicemeet from public;" in path.read_text()
        assert revokes or not creates, path.name


def test_a_crash_keeps_reports_and_forgets_who_waits(postgres17: Postgres) -> None:
    database = postgres17.new_database()
    with postgres17.connect(database) as connection:
        connection.execute("insert into voicemeet.reports (receipt, reason) values ('kept', 'abuse')")
        ask = """select voicemeet.match('{"device": "d", "ticket": "t", "pool": "public",
                 "role": "either", "call_id": "c"}')"""
        assert connection.execute(ask).fetchone() is not None
    postgres17.crash()
    with postgres17.connect(database) as connection:
        assert connection.execute("select receipt from voicemeet.reports").fetchall() == [("kept",)]
        assert connection.execute("select count(*) from voicemeet.tickets").fetchone() == (0,)
        row = connection.execute(ask).fetchone()
        assert row is not None
        assert row[0]["status"] == "waiting"


def test_the_platforms_clock_is_set_up(postgres15: Postgres) -> None:
    with postgres15.connect("postgres", "supabase_admin") as admin:
        admin.execute("create database clock template bare")
        admin.execute("grant create on database clock to postgres")
    with postgres15.connect("clock", "supabase_admin") as admin:
        # The platform lets `postgres` make this extension; Postgres itself asks for a superuser.
        admin.execute("create extension pg_cron; grant usage on schema cron to postgres")
    postgres15.migrate("clock")
    postgres15.migrate("clock")
    with postgres15.connect("clock", "supabase_admin") as admin:
        jobs = dict(admin.execute("select jobname, command from cron.job order by 1").fetchall())
    assert list(jobs) == ["voicemeet-cron-log", "voicemeet-purge"]
    assert jobs["voicemeet-purge"] == "select voicemeet.purge()"


def test_a_platform_without_the_clock_is_fine(postgres17: Postgres) -> None:
    with postgres17.connect("base") as connection:
        assert connection.execute("select to_regclass('cron.job')").fetchone() == (None,)
        assert connection.execute("select voicemeet.purge() ->> 'reports'").fetchone() == ("0",)
