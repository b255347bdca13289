"""Many at once, on real connections: nobody in two calls or left waiting beside somebody, no deadlock."""

from __future__ import annotations

import json
import random
import secrets
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.hosted.postgres import Postgres

CONNECTIONS = 16
REQUESTS = 2_400  # in all; enough that every pair of verbs meets in the same row


def ask(connection: psycopg.Connection[Any], verb: str, **fields: object) -> dict[str, Any]:
    """Ask one verb as the function does."""
    row = connection.execute(f"select voicemeet.{verb}(%s::text::jsonb)", [json.dumps(fields)]).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def match(
    connection: psycopg.Connection[Any], device: str, ticket: str, pool: str, role: str = "either"
) -> dict[str, Any]:
    """Ask `match` with a fresh call id."""
    call_id = secrets.token_hex(16)
    return ask(connection, "match", device=device, ticket=ticket, pool=pool, role=role, call_id=call_id)


@pytest.fixture
def database(postgres: Postgres) -> str:
    name = postgres.new_database()
    with postgres.connect(name) as admin:
        admin.execute("update voicemeet.settings set device_per_s = 1e6, device_burst = 1e6")
        admin.execute("update voicemeet.pools set is_open = true")
        admin.execute("select voicemeet.set_pool(p, true) from unnest(array['p0', 'p1', 'p2']) as p")
    return name


@pytest.mark.parametrize(
    "roles", [("either", "either"), ("caller", "answerer"), ("answerer", "caller")], ids="-".join
)
def test_two_who_arrive_at_the_same_moment_meet(
    postgres: Postgres, database: str, roles: tuple[str, str]
) -> None:
    # The first holds its row, unseen and locked, while the second looks: without the look again under the
    # pool's lock both would go on waiting beside each other.
    with (
        postgres.connect(database, "voicemeet_function") as first,
        postgres.connect(database, "voicemeet_function") as second,
        ThreadPoolExecutor(1) as pool,
    ):
        first.execute("begin")
        assert match(first, "d1", "t1", "public", roles[0])["status"] == "waiting"
        late = pool.submit(match, second, "d2", "t2", "public", roles[1])
        threading.Event().wait(0.3)
        assert not late.done()
        first.execute("commit")
        assert late.result(20)["status"] == "matched"


def test_polls_that_cross_meet(postgres: Postgres, database: str) -> None:
    with (
        postgres.connect(database) as admin,
        postgres.connect(database, "voicemeet_function") as first,
        postgres.connect(database, "voicemeet_function") as second,
        ThreadPoolExecutor(1) as pool,
    ):
        # Two wait already, who passed each other over as old acquaintances; now both ask again at once.
        match(first, "d1", "t1", "public")
        admin.execute("update voicemeet.tickets set role = 'caller'")
        match(second, "d2", "t2", "public")
        admin.execute("update voicemeet.tickets set role = 'either', seen = seen - interval '3 s'")
        first.execute("begin")
        first.execute("set local role none")
        admin.execute("begin")
        admin.execute("select from voicemeet.tickets where ticket = 't2' for update")
        assert match(first, "d1", "t1", "public")["status"] == "waiting"  # its partner's row is locked
        late = pool.submit(match, second, "d2", "t2", "public")
        admin.execute("commit")
        threading.Event().wait(0.2)
        first.execute("commit")
        assert late.result(20)["status"] == "matched"


def check_nobody_is_in_two_calls(postgres: Postgres, database: str) -> None:
    with postgres.connect(database) as admin:

        def none(what: str, query: str) -> None:
            assert admin.execute(query).fetchall() == [], what

        none(
            "a ticket in a call that is not",
            """select ticket from voicemeet.tickets t where call_id is not null
            and not exists (select from voicemeet.calls c where c.call_id = t.call_id)""",
        )
        none(
            "a call with more than two tickets",
            """select call_id from voicemeet.tickets
            where call_id is not null group by 1 having count(*) > 2 or count(distinct slot) < count(*)""",
        )
        none(
            "two tickets of one device", "select device from voicemeet.tickets group by 1 having count(*) > 1"
        )
        none(
            "partners that disagree",
            """select t.ticket from voicemeet.tickets t
            join voicemeet.tickets o on o.ticket = t.partner and o.call_id = t.call_id
            where o.partner <> t.ticket or o.slot = t.slot or o.pool <> t.pool""",
        )
        none("a call with itself", "select call_id from voicemeet.calls where device_a = device_b")
        none(
            "a ticket in a call of others",
            """select t.ticket from voicemeet.tickets t
            join voicemeet.calls c using (call_id)
            where t.device <> case t.slot when 'a' then c.device_a else c.device_b end""",
        )
        none(
            "two strangers who wait beside each other though they never met",
            """
            select a.ticket from voicemeet.tickets a join voicemeet.tickets b
                on a.pool = b.pool and a.ticket < b.ticket and a.call_id is null and b.call_id is null
            where (a.role, b.role) in (('caller', 'answerer'), ('answerer', 'caller'))""",
        )


def test_nobody_is_in_two_calls_whatever_happens_at_once(postgres: Postgres, database: str) -> None:
    seed = random.Random(7)
    works = [random.Random(seed.random()) for _ in range(CONNECTIONS)]
    outcomes: Counter[str] = Counter()

    def storm(rng: random.Random) -> None:
        # A few devices shared by all connections: arrivals, polls, changes of mind, leaving, ends, reports.
        with postgres.connect(database, "voicemeet_function") as connection:
            for _ in range(REQUESTS // CONNECTIONS):
                device = f"d{rng.randrange(40)}"
                ticket = f"{device}-{rng.randrange(3)}"
                pool = f"p{rng.randrange(3)}"
                role = rng.choice(["either", "caller", "answerer"])
                what = rng.random()
                if what < 0.75:
                    answer = match(connection, device, ticket, pool, role)
                elif what < 0.9:
                    answer = ask(connection, "leave", device=device, ticket=ticket)
                else:
                    answer = ask(connection, "report", call_id="x" * 22, slot="a", reason="abuse",
                                 receipt=secrets.token_hex(4))  # fmt: skip
                outcomes[str(answer.get("status") or answer.get("error") or "ok")] += 1

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        # A deadlock, or any other error of the server, is raised here.
        list(pool.map(storm, works))
    assert outcomes["matched"] > 100
    check_nobody_is_in_two_calls(postgres, database)


def test_a_purge_in_the_middle_takes_nobody_away(postgres: Postgres, database: str) -> None:
    with postgres.connect(database, "voicemeet_function") as one, postgres.connect(database) as purger:
        match(one, "d1", "t1", "public")
        purger.execute("update voicemeet.tickets set seen = seen - interval '1 hour'")
        one.execute("begin")
        assert match(one, "d1", "t1", "public")["status"] == "waiting"
        # The row is in use: the purge passes it over and does not wait.
        purger.execute("set lock_timeout = '2s'")
        assert purger.execute("select voicemeet.purge()").fetchone() is not None
        one.execute("commit")
        assert purger.execute("select ticket from voicemeet.tickets").fetchall() == [("t1",)]
