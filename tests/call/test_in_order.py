"""Commands are carried out in order, and what follows from one comes after those that stand already."""

from __future__ import annotations

import pytest

from voicemeet_edge.call.in_order import InOrder


def test_what_follows_from_a_command_comes_last_and_is_done_by_who_began() -> None:
    done: list[str] = []
    inner: list[bool] = []

    def do(command: str) -> None:
        done.append(command)
        if command == "one":
            inner.append(orders.execute(["follows"]))
            assert done == ["one"], "not in the middle of something else"

    orders = InOrder(do)
    assert orders.execute(["one", "two"])
    assert done == ["one", "two", "follows"]
    assert inner == [False]


def test_a_command_that_fails_leaves_the_rest_for_the_next() -> None:
    done: list[str] = []

    def do(command: str) -> None:
        if command == "bad":
            raise ValueError(command)
        done.append(command)

    orders = InOrder(do)
    with pytest.raises(ValueError, match="bad"):
        orders.execute(["bad", "good"])
    assert orders.execute(["next"])
    assert done == ["good", "next"]
