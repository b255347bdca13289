"""Names with a resolver that answers late, by halves, wrongly or not at all."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from voicemeet_edge.net import names as under_test
from voicemeet_edge.net.names import FAMILIES, MAX_LOOKUPS, MAX_NAMES, Names, interleave

SIX, FOUR = FAMILIES
HOST = "hub.test"


class Resolver:
    """A resolver whose answers a test gives; what is not there never comes until the test ends."""

    def __init__(self) -> None:
        self.answers: dict[socket.AddressFamily, list[str] | OSError | None] = {}
        self.asked: list[tuple[str, socket.AddressFamily]] = []
        self.ended = threading.Event()

    def __call__(self, host: str, family: socket.AddressFamily) -> list[str]:
        self.asked.append((host, family))
        answer = self.answers.get(family)
        if answer is None:
            self.ended.wait()
            return []
        if isinstance(answer, OSError):
            raise answer
        return answer


@pytest.fixture
def resolver() -> Iterator[Resolver]:
    one = Resolver()
    yield one
    one.ended.set()


async def test_an_address_is_its_own(resolver: Resolver) -> None:
    names = Names(resolver)
    assert await names.resolve("192.0.2.1") == ["192.0.2.1"]
    assert await names.resolve("2001:DB8::1") == ["2001:db8::1"]
    assert resolver.asked == []


async def test_both_families_in_turn(resolver: Resolver) -> None:
    resolver.answers = {SIX: ["2001:db8::1", "2001:db8::2"], FOUR: ["192.0.2.1", "192.0.2.1"]}
    assert await Names(resolver).resolve(HOST) == ["2001:db8::1", "192.0.2.1", "2001:db8::2"]


def test_interleaving() -> None:
    assert interleave("abc", "x") == ["a", "x", "b", "c"]
    assert interleave("", "xy") == ["x", "y"]


@pytest.mark.parametrize("deaf", FAMILIES)
async def test_a_resolver_deaf_to_one_kind_of_question_holds_nothing_up(
    resolver: Resolver, deaf: socket.AddressFamily
) -> None:
    answers: dict[socket.AddressFamily, list[str]] = {SIX: ["2001:db8::1"], FOUR: ["192.0.2.1"]}
    resolver.answers = {family: answer for family, answer in answers.items() if family != deaf}
    expected = [address for family in FAMILIES if family != deaf for address in answers[family]]
    assert await Names(resolver).resolve(HOST) == expected


async def test_a_dead_resolver_is_outlived_by_what_was_known(resolver: Resolver) -> None:
    names = Names(resolver)
    resolver.answers = {SIX: socket.gaierror(socket.EAI_NONAME, "none"), FOUR: ["192.0.2.1"]}
    assert await names.resolve(HOST) == ["192.0.2.1"]
    resolver.answers = {}
    for _ in range(5):
        assert await names.resolve(HOST) == ["192.0.2.1"]
    assert len(resolver.asked) == 4  # a silent resolver is not asked again while it is being asked
    resolver.answers = dict.fromkeys(FAMILIES, socket.gaierror(socket.EAI_AGAIN, "later"))
    other = Names(resolver)
    with pytest.raises(socket.gaierror):
        await other.resolve(HOST)


async def test_a_resolver_that_answers_wins_over_memory(resolver: Resolver) -> None:
    names = Names(resolver)
    resolver.answers = {SIX: ["2001:db8::1"], FOUR: ["192.0.2.1"]}
    await names.resolve(HOST)
    resolver.answers = {SIX: socket.gaierror(socket.EAI_NODATA, "none"), FOUR: ["192.0.2.2"]}
    assert await names.resolve(HOST) == ["192.0.2.2"]


async def test_what_worked_comes_first_and_what_failed_last(resolver: Resolver) -> None:
    names = Names(resolver)
    resolver.answers = {SIX: ["2001:db8::1"], FOUR: ["192.0.2.1", "192.0.2.2"]}
    await names.resolve(HOST)
    names.worked(HOST, "192.0.2.2")
    assert await names.resolve(HOST) == ["192.0.2.2", "2001:db8::1", "192.0.2.1"]
    names.failed(HOST, "192.0.2.2")
    assert await names.resolve(HOST) == ["2001:db8::1", "192.0.2.1", "192.0.2.2"]


async def test_nothing_known_and_nobody_answers_waits_for_the_callers_limit(resolver: Resolver) -> None:
    names = Names(resolver)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(names.resolve(HOST), 0.05)
    # Who gave up waiting has not cancelled the question for the next.
    resolver.answers = {FOUR: ["192.0.2.1"]}
    second = asyncio.ensure_future(names.resolve(HOST))
    await asyncio.sleep(0)
    assert len(resolver.asked) == 2
    second.cancel()


async def test_lookups_and_memory_are_bounded(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(resolver)
    waiting = [asyncio.ensure_future(names.resolve(f"{n}.test")) for n in range(MAX_LOOKUPS // 2)]
    await asyncio.sleep(0)
    with pytest.raises(OSError, match="too many lookups"):
        await names.resolve(HOST)
    for one in waiting:
        one.cancel()
    other = Resolver()
    other.answers = {SIX: [], FOUR: [f"192.0.2.{n}" for n in range(99)]}
    names = Names(other)
    for n in range(MAX_NAMES + 5):
        assert len(await names.resolve(f"{n}.test")) == under_test.MAX_ADDRESSES
    assert len(names._known) == MAX_NAMES
    monkeypatch.setattr(under_test, "KEEP_S", 0.0)
    other.answers = dict.fromkeys(FAMILIES, OSError("dead"))
    with pytest.raises(OSError, match="dead"):
        await names.resolve("60.test")


async def test_the_systems_resolver() -> None:
    assert "127.0.0.1" in await Names().resolve("localhost")
    with pytest.raises(OSError, match=r"."):
        await Names().resolve("no-such-name.invalid")
    with pytest.raises(OSError, match=r"."):
        await Names().resolve("x" * 300)
