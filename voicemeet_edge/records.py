"""Data classes that are cheap to make: what `dataclasses.dataclass` does, without generated code.

The standard library writes source for each class and compiles it: 2 to 3 M instructions a class on a 64-bit
ARM, and this process makes two hundred before it is ready, a quarter of its start. Here all classes share the
same few functions; what that costs is a microsecond more for each object made.

One rule: to `fields`, `replace`, `asdict`, `match` and a type checker they are data classes like any other.
Not here: `order`, `init=False`, `kw_only`, `InitVar`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, slots=False, eq=True):
        """Make a data class; see `dataclasses.dataclass`."""

        def make(cls: type) -> type:
            return _process(cls, frozen=frozen, slots=slots, eq=eq)

        return make if cls is None else make(cls)


__all__ = ["dataclass"]

_FIELDS = "__dataclass_fields__"


def _process(cls: type, *, frozen: bool, slots: bool, eq: bool) -> type:
    inherited: dict[str, Field[Any]] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited |= base.__dict__.get(_FIELDS, {})
    own = dict(_own_fields(cls))
    fields = inherited | own
    if slots:
        cls = _with_slots(cls, own, [name for name in own if name not in inherited])
    names = tuple(fields)
    values = _getter([name for name, field in fields.items() if field.compare])
    shown = [name for name, field in fields.items() if field.repr]
    given: dict[str, object] = {"__init__": _init(tuple(fields.values()), hasattr(cls, "__post_init__"))}
    given["__match_args__"] = names
    given["__repr__"] = _repr(shown)
    if eq:
        given["__eq__"] = _eq(values)
    if eq and "__hash__" not in cls.__dict__:
        given["__hash__"] = _hash(values) if frozen else None
    if frozen:
        given |= {"__setattr__": _refuse, "__delattr__": _refuse}
    if frozen and slots:
        given |= {"__getstate__": _state(_getter(names), len(names)), "__setstate__": _set_state(names)}
    for name, value in given.items():
        if name not in cls.__dict__:
            setattr(cls, name, value)
    setattr(cls, _FIELDS, fields)
    # What the standard library's data classes ask of those they inherit from.
    setattr(cls, "__dataclass_params__", SimpleNamespace(frozen=frozen))  # noqa: B010 - not an attribute, to mypy
    return cls


def _own_fields(cls: type) -> Iterable[tuple[str, Field[Any]]]:
    for name, annotation in inspect.get_annotations(cls).items():
        if "ClassVar" in str(annotation):
            continue
        default = cls.__dict__.get(name, MISSING)
        field: Field[Any] = default if isinstance(default, Field) else dataclasses.field(default=default)
        if field.default.__class__.__hash__ is None:
            raise ValueError(f"{name}: one default for all objects must not change; use default_factory")
        field.name, field.type = name, annotation
        field._field_type = dataclasses._FIELD  # type: ignore[attr-defined]
        if isinstance(default, Field):
            if field.default is MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, field.default)
        yield name, field


def _with_slots(cls: type, fields: Mapping[str, object], slots: list[str]) -> type:
    """Make the class again: slots are there from its beginning, or never."""
    kept = {
        name: value
        for name, value in cls.__dict__.items()
        if name not in fields and name not in ("__dict__", "__weakref__")
    }
    made: type = type(cls)(cls.__name__, cls.__bases__, kept | {"__slots__": tuple(slots)})
    made.__qualname__ = cls.__qualname__
    return made


def _init(fields: tuple[Field[Any], ...], post: bool) -> Callable[..., None]:
    names, count, put = tuple(field.name for field in fields), len(fields), object.__setattr__

    def fill(self: Any, /, *given: object, **named: object) -> None:
        if named or len(given) != count:
            given = _fill(type(self).__name__, fields, given, named)
        for name, value in zip(names, given, strict=True):
            put(self, name, value)
        if post:
            self.__post_init__()

    return fill


def _fill(
    what: str, fields: tuple[Field[Any], ...], given: tuple[object, ...], named: dict[str, object]
) -> tuple[object, ...]:
    """Put names and defaults in their places."""
    if len(given) > len(fields):
        raise TypeError(f"{what}() takes {len(fields)} values, and {len(given)} were given")
    values = list(given)
    for field in fields[len(given) :]:
        if field.name in named:
            values.append(named.pop(field.name))
        elif field.default is not MISSING:
            values.append(field.default)
        elif field.default_factory is not MISSING:
            values.append(field.default_factory())
        else:
            raise TypeError(f"{what}() needs a value for {field.name!r}")
    if named:
        raise TypeError(f"{what}() got an unexpected or second value for {', '.join(map(repr, named))}")
    return tuple(values)


def _getter(names: Iterable[str]) -> Callable[[Any], Any]:
    listed = list(names)
    return attrgetter(*listed) if listed else lambda _self: ()


def _repr(names: list[str]) -> Callable[[Any], str]:
    def show(self: Any) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return show


def _eq(values: Callable[[Any], Any]) -> Callable[[Any, object], Any]:
    def equals(self: Any, other: object) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        # In a tuple, what is the same object is equal to itself.
        return (values(self),) == (values(other),)

    return equals


def _hash(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def hash_of(self: Any) -> int:
        return hash(values(self))

    return hash_of


def _refuse(self: object, name: str, *_value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _state(values: Callable[[Any], Any], count: int) -> Callable[[Any], list[object]]:
    def get(self: Any) -> list[object]:
        return [values(self)] if count == 1 else list(values(self))

    return get


def _set_state(names: tuple[str, ...]) -> Callable[[Any, list[object]], None]:
    def put(self: Any, state: list[object]) -> None:
        for name, value in zip(names, state, strict=True):
            object.__setattr__(self, name, value)

    return put
