"""What feeds the fuzz targets: seeds, spoiled in many ways, the same way for the same number.

One rule: an input depends on nothing but the target's name, the seed and its place in the run, so that
a finding can be had again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MAX_INPUT_BYTES = 40_000  # bytes; above every limit of the parsers, so that the limits are tried too
MAX_CHANGES = 8  # changes in one input; more only make noise that the first check refuses
WHOLLY_RANDOM = 0.03  # share of inputs that have nothing to do with a seed

COMMON_TOKENS = (
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\r\n", b"\n", b" ", b":", b"=", b"/", b'"', b"\\", b"\\ud800"),
    *(b"{", b"}", b"[", b"]", b",", b"null", b"true", b"NaN", b"1e999", b"-1", b"0", b"65536", b"4294967296"),
    *(b"9" * 25, b"[" * 40, b"A" * 300),
)


@dataclass(frozen=True)
class Target:
    """One parser: `fuzz_one` returns for every input, or the parser has a fault."""

    name: str
    fuzz_one: Callable[[bytes], None]
    seeds: Sequence[bytes]
    tokens: Sequence[bytes] = ()
    """Words of the language, put in where chance wants them."""


@dataclass(eq=False)  # not frozen: who raises it writes where
class Finding(Exception):  # noqa: N818 - a finding is what it is called in this trade
    """An input that broke the target; the cause is chained."""

    target: str
    number: int
    data: bytes

    def __str__(self) -> str:
        return f"{self.target}, input {self.number}: {self.data!r}"


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """Yield the seeds as they are, then spoiled ones for ever."""
    rng = random.Random(f"{target.name} {seed}")
    yield from target.seeds
    tokens = (*target.tokens, *COMMON_TOKENS)
    while True:
        if rng.random() < WHOLLY_RANDOM:
            yield rng.randbytes(rng.randrange(200))
        else:
            yield _spoiled(rng, target.seeds, tokens)


def _spoiled(rng: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, MAX_CHANGES)):
        at, size = rng.randrange(len(data) + 1), 1 << rng.randrange(7)
        match rng.randrange(8):
            case 0:
                data[at : at + rng.randint(0, 8)] = rng.choice(tokens)
            case 1:
                data[at:at] = rng.choice(tokens)
            case 2:
                del data[at : at + size]
            case 3:
                data[at : at + 4] = rng.randbytes(rng.randint(0, 4))
            case 4 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 5:
                other = rng.choice(seeds)
                start = rng.randrange(len(other) + 1)
                data[at : at + size] = other[start : start + size]
            case 6:
                data[at:at] = data[at : at + size] * rng.choice((1, 1, 2, 30))
            case _:
                del data[rng.randrange(len(data) + 1) if rng.random() < 0.2 else len(data) :]
    return bytes(data[:MAX_INPUT_BYTES])


@dataclass(frozen=True)
class Run:
    """What a run did."""

    target: str
    inputs: int
    seconds: float


def run(target: Target, *, count: int | None, seconds: float | None = None, seed: int = 1) -> Run:
    """Feed inputs until there were `count` of them or the time is over.

    Raises:
        Finding: the target broke.
    """
    began = time.monotonic()
    number = 0
    for data in inputs(target, seed):
        if number == count or (seconds is not None and time.monotonic() - began >= seconds):
            break
        try:
            target.fuzz_one(data)
        except Exception as error:
            raise Finding(target.name, number, data) from error
        number += 1
    return Run(target.name, number, time.monotonic() - began)
