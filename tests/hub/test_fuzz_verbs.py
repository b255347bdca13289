"""A short run of the verbs' fuzz target; the long one is by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.hub.fuzz_verbs import fuzz_one, run


def test_mutated_bodies() -> None:
    run(5_000, seed=7)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    fuzz_one(data)
