"""A short run of every fuzz target, and the engine that feeds them; the long run is `make fuzz`."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.engine import Finding, Target, inputs, run
from tests.fuzz.targets import TARGETS

INPUTS = {"playout": 150, "opus": 600}  # inputs where one costs a millisecond; 1,500 elsewhere


@pytest.mark.parametrize("name", TARGETS)
def test_spoiled_inputs(name: str) -> None:
    count = INPUTS.get(name, 1_500)
    assert run(TARGETS[name], count=count, seed=7).inputs == count


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    @settings(max_examples=60, deadline=None, database=None)
    @given(st.binary(max_size=300))
    def check(data: bytes) -> None:
        TARGETS[name].fuzz_one(data)

    check()


def test_the_same_number_gives_the_same_inputs() -> None:
    target = TARGETS["sdp"]
    assert list(islice(inputs(target, 3), 50)) == list(islice(inputs(target, 3), 50))
    assert list(islice(inputs(target, 3), 50)) != list(islice(inputs(target, 4), 50))


def test_what_breaks_a_target_is_named() -> None:
    def fragile(data: bytes) -> None:
        if b"!" in data:
            raise IndexError

    with pytest.raises(Finding) as found:
        run(Target("fragile", fragile, (b"seed",), (b"!",)), count=1_000)
    assert b"!" in found.value.data
    assert isinstance(found.value.__cause__, IndexError)
