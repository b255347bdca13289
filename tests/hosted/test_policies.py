"""Who may join and speak, asked of the real policies with the statements that Realtime asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosted.gateway import GatewaySettings, PolicyAuthorizer
from tests.hosted.postgres import Postgres
from tests.hosted.stack import PUBLISHABLE, SECRET_KEY, signing_key
from voicemeet_edge.hub.realtime.authorizer import Claims

CALL, OTHER = "c" * 32, "f" * 32
TICKET = "t" * 22


@pytest.fixture(scope="module")
def door(postgres: Postgres) -> Iterator[PolicyAuthorizer]:
    database = postgres.new_database()
    url = postgres.url(database, "realtime_server")
    authorizer = PolicyAuthorizer(GatewaySettings(url, "", PUBLISHABLE, SECRET_KEY, signing_key()))
    yield authorizer
    authorizer.close()
    with postgres.connect(database, "supabase_admin") as admin:
        # Nothing that was asked is left behind.
        assert admin.execute("select count(*) from realtime.messages").fetchone() == (0,)


def claims(role: str = "anon", **more: str) -> Claims:
    return Claims(role, 4e9, **more)


@pytest.mark.parametrize(
    ("who", "topic", "read", "write"),
    [
        (claims(call_id=CALL, slot="a"), f"call:{CALL}", True, True),
        (claims(call_id=CALL, slot="b"), f"call:{CALL}", True, True),
        (claims(call_id=CALL, slot="a"), f"call:{OTHER}", False, False),
        (claims(call_id=CALL, slot="c"), f"call:{CALL}", True, False),
        (claims(call_id=CALL), f"call:{CALL}", True, False),
        (claims(call_id=CALL, slot="a"), f"wait:{CALL}", False, False),
        (claims(ticket=TICKET), f"wait:{TICKET}", True, False),
        (claims(ticket=TICKET), f"call:{TICKET}", False, False),
        (claims(ticket=TICKET), f"wait:{OTHER}", False, False),
        (claims(), f"call:{CALL}", False, False),
        (claims(), "call:", False, False),
        (claims(), "wait:", False, False),
        (claims(), "lobby", False, False),
        (claims("authenticated", call_id=CALL, slot="a"), f"call:{CALL}", False, False),
        (claims("service_role"), f"wait:{TICKET}", True, True),
    ],
)
def test_who_may(door: PolicyAuthorizer, who: Claims, topic: str, read: bool, write: bool) -> None:
    assert door.may_read(who, topic, private=True) is read
    assert door.may_write(who, topic, private=True) is write


def test_presence_is_for_nobody(postgres17: Postgres) -> None:
    database = postgres17.new_database()
    with postgres17.connect(database, "realtime_server") as server, server.transaction(force_rollback=True):
        server.execute("set local role supabase_realtime_admin")
        topic = f"call:{CALL}"
        insert = "insert into realtime.messages (topic, extension) values (%s, 'presence') returning id"
        row = server.execute(insert, [topic]).fetchone()
        assert row is not None
        server.execute(
            "select set_config('role', 'anon', true), set_config('realtime.topic', %s, true), "
            "set_config('request.jwt.claims', %s, true)",
            [topic, f'{{"call_id": "{CALL}", "slot": "a"}}'],
        )
        assert server.execute("select id from realtime.messages where id = %s", [row[0]]).fetchall() == []


def test_a_missing_day_of_the_table_is_refused_and_told_apart(postgres17: Postgres) -> None:
    database = postgres17.new_database()
    with postgres17.connect(database, "supabase_admin") as admin:
        days = admin.execute(
            "select inhrelid::regclass::text from pg_inherits where inhparent = 'realtime.messages'::regclass"
        ).fetchall()
        for (day,) in days:
            admin.execute(f"drop table {day}")
    url = postgres17.url(database, "realtime_server")
    authorizer = PolicyAuthorizer(GatewaySettings(url, "", PUBLISHABLE, SECRET_KEY, signing_key()))
    who = claims(call_id=CALL, slot="a")
    assert authorizer.may_read(who, f"call:{CALL}", private=True) is False
    with postgres17.connect(database, "supabase_admin") as admin:
        admin.execute("create table realtime.today partition of realtime.messages default")
        admin.execute("alter table realtime.today owner to supabase_realtime_admin")
    # Nothing was decided for good: the day is there, and so is the call.
    assert authorizer.may_read(who, f"call:{CALL}", private=True) is True
    authorizer.close()
