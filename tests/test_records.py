"""Our data classes against the standard library's: the same to whoever uses them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, astuple, field, fields, replace
from typing import Any, ClassVar

import pytest

from voicemeet_edge import records

MAKERS = [dataclasses.dataclass, records.dataclass]
KINDS = [{}, {"frozen": True}, {"slots": True}, {"frozen": True, "slots": True}, {"eq": False}]


def made(maker: Callable[..., Any], **kind: bool) -> Any:
    class Point:
        """A place."""

        KNOWN: ClassVar[int] = 3
        x: int
        y: int = 2
        names: list[str] = field(default_factory=list, compare=False)
        hidden: str = field(default="", repr=False)

        @property
        def sum(self) -> int:
            return self.x + self.y

    Point.__qualname__ = "Point"
    return maker(**kind)(Point)


def outcome(work: Callable[[], object]) -> object:
    """What it returned, or the kind of its error."""
    try:
        return work()
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("kind", KINDS)
def test_used_alike(kind: dict[str, bool]) -> None:
    seen = []
    for maker in MAKERS:
        point = made(maker, **kind)
        one, other = point(1, names=["a"]), point(x=1, y=2, hidden="h")

        def set_x(one: Any = one) -> object:
            one.x = 5
            return one.x

        def delete(one: Any = one) -> bool:
            del one.y
            return True

        seen.append(
            [
                repr(one) if kind != {"eq": False} else "",
                one == point(1),
                one == other,
                one == 1,
                outcome(lambda one=one: isinstance(hash(one), int)),  # type: ignore[misc]
                outcome(lambda one=one, point=point: hash(one) == hash(point(1))),  # type: ignore[misc]
                [(one.name, one.default, one.repr, one.compare) for one in fields(point)],
                asdict(other),
                astuple(other),
                replace(one, y=7).sum,
                outcome(lambda one=one: replace(one, z=7)),  # type: ignore[misc]
                outcome(lambda point=point: point()),  # type: ignore[misc]
                outcome(lambda point=point: point(1, 2, [], "", 5)),  # type: ignore[misc]
                outcome(lambda point=point: point(1, x=2)),  # type: ignore[misc]
                outcome(lambda point=point: point(1, z=2)),  # type: ignore[misc]
                point.__match_args__,
                hasattr(one, "__dict__"),
                copy.deepcopy(other).hidden,
                copy.copy(other).x,
                point.KNOWN,
                point.__doc__,
                outcome(set_x),
                outcome(delete),
                point(1).names is point(1).names,
                dataclasses.is_dataclass(point),
            ]
        )
    assert seen[0] == seen[1]


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("slots", [False, True])
def test_inherited_fields_come_first(maker: Callable[..., Any], slots: bool) -> None:
    @maker(frozen=True, slots=slots)
    class Base:
        a: int
        b: int = 2

    @maker(frozen=True, slots=slots)
    class Child(Base):
        c: int = 3
        b: int = 4

    child = Child(1)  # type: ignore[call-arg]
    assert (child.a, child.b, child.c) == (1, 4, 3)
    assert repr(child).endswith("Child(a=1, b=4, c=3)")
    assert child != Base(1, 4)  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        child.a = 2


@pytest.mark.parametrize("maker", MAKERS)
def test_what_a_class_says_itself_stays(maker: Callable[..., Any]) -> None:
    @maker(frozen=True)
    class Own:
        a: int

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("below 0")

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

        def __repr__(self) -> str:
            return "own"

    own = Own(1)  # type: ignore[call-arg]
    assert (own == 5, hash(own), repr(own)) == (True, 7, "own")
    with pytest.raises(ValueError, match="below 0"):
        Own(-1)  # type: ignore[call-arg]


@pytest.mark.parametrize("maker", MAKERS)
def test_a_default_that_changes_is_refused(maker: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="default"):

        @maker
        class Shared:
            a: list[int] = []  # noqa: RUF012


@records.dataclass(frozen=True, slots=True)
class Kept:
    """Of a module, so that it can be pickled."""

    a: int
    b: tuple[int, ...] = ()


def test_pickled_and_matched() -> None:
    assert pickle.loads(pickle.dumps(Kept(1, (2,)))) == Kept(1, (2,))
    match Kept(1, (2,)):
        case Kept(a, b):
            assert (a, b) == (1, (2,))
