"""What constructors are given and may ask for, and the checks of what a file says there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeGuard

from converters.pickles.values import BadPickle

MAX_DIMENSIONS = 64
MAX_SIZE = 1 << 62

Args = tuple[object, ...]


class Caller(Protocol):
    """What a constructor may ask of the machine."""

    def call(self, target: object, args: object) -> object:
        """Call another name, as inertly as any."""

    def key(self, value: object) -> object:
        """Check a key or set member."""

    def spend(self, amount: int) -> None:
        """Charge memory."""

    def look_into(self, value: bytes) -> None:
        """Note the names of pickles inside a value."""


Constructor = Callable[[Caller, Args], object]


def under(modules: Iterable[str], names: Mapping[str, Constructor]) -> dict[str, Constructor]:
    """Constructors by dotted name, under each of the modules that have had them."""
    return {f"{module}.{name}": make for module in modules for name, make in names.items()}


def expect(args: Args, least: int, name: str) -> None:
    """Raise BadPickle where `name` is given fewer arguments."""
    if len(args) < least:
        raise BadPickle(f"{name} with {len(args)} arguments")


def is_count(value: object) -> TypeGuard[int]:
    """A whole number that a size, stride or offset can be."""
    return type(value) is int and 0 <= value < MAX_SIZE


def count(value: object, what: str) -> int:
    """A size, stride or offset. Raises BadPickle."""
    if not is_count(value):
        raise BadPickle(f"a tensor whose {what} is not a number from 0 on")
    return value


def counts(values: object, what: str) -> tuple[int, ...]:
    """Sizes or strides. Raises BadPickle."""
    if not isinstance(values, (tuple, list)) or len(values) > MAX_DIMENSIONS:
        raise BadPickle(f"a tensor whose {what} is not a short list of numbers")
    return tuple(count(value, what) for value in values)
