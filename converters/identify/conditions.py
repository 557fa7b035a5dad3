"""Conditions over tensor names and shapes, as values that rows are written with."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from converters.identify.names import Names


class Condition(Protocol):
    """Something that holds, or does not, for the tensors of a file."""

    def holds(self, names: Names) -> bool:
        """Whether it does."""


@dataclass(frozen=True, slots=True)
class _Present:
    wanted: tuple[str, ...]
    every: bool

    def holds(self, names: Names) -> bool:
        found = (name in names for name in self.wanted)
        return all(found) if self.every else any(found)


@dataclass(frozen=True, slots=True)
class _Prefixed:
    prefixes: tuple[str, ...]

    def holds(self, names: Names) -> bool:
        return any(f"\n{prefix}" in names.text for prefix in self.prefixes)


@dataclass(frozen=True, slots=True)
class _Matching:
    pattern: re.Pattern[str]

    def holds(self, names: Names) -> bool:
        return self.pattern.search(names.text) is not None


@dataclass(frozen=True, slots=True)
class _Ending:
    ending: str

    def holds(self, names: Names) -> bool:
        return names.ending(self.ending) is not None


@dataclass(frozen=True, slots=True)
class _Share:
    of: Callable[[str], bool]
    least: float

    def holds(self, names: Names) -> bool:
        return sum(map(self.of, names)) > self.least * len(names)


@dataclass(frozen=True, slots=True)
class _Shaped:
    name: str
    shape: tuple[int | None, ...]

    def holds(self, names: Names) -> bool:
        tensor = names.get(self.name)
        return tensor is not None and fits(tensor.shape, self.shape)


@dataclass(frozen=True, slots=True)
class _Sized:
    name: str
    axis: int
    sizes: tuple[int, ...]

    def holds(self, names: Names) -> bool:
        return names.size(self.name, self.axis) in self.sizes


@dataclass(frozen=True, slots=True)
class _All:
    parts: tuple[Condition, ...]

    def holds(self, names: Names) -> bool:
        return all(part.holds(names) for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Any:
    parts: tuple[Condition, ...]

    def holds(self, names: Names) -> bool:
        return any(part.holds(names) for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Not:
    part: Condition

    def holds(self, names: Names) -> bool:
        return not self.part.holds(names)


@dataclass(frozen=True, slots=True)
class _Within:
    view: Callable[[Names], Names]
    part: Condition

    def holds(self, names: Names) -> bool:
        return self.part.holds(self.view(names))


def has_all(*names: str) -> Condition:
    """All of these tensors are there."""
    return _Present(names, every=True)


def has_any(*names: str) -> Condition:
    """At least one of these tensors is there."""
    return _Present(names, every=False)


def has_prefix(*prefixes: str) -> Condition:
    """A name begins with one of these."""
    return _Prefixed(prefixes)


def matching(pattern: str) -> Condition:
    """A name contains the pattern; `^` and `$` are the ends of a name."""
    return _Matching(re.compile(pattern, re.MULTILINE))


def ending(text: str) -> Condition:
    """A name ends so, after a dot or as a whole."""
    return _Ending(text)


def most(of: Callable[[str], bool], *, least: float = 0.5) -> Condition:
    """More than this share of all names are such."""
    return _Share(of, least)


def shape(name: str, *sizes: int | None) -> Condition:
    """The tensor has this shape; None stands for any size."""
    return _Shaped(name, sizes)


def size(name: str, axis: int, *sizes: int) -> Condition:
    """The tensor has one of these sizes along an axis."""
    return _Sized(name, axis, sizes)


def both(*parts: Condition) -> Condition:
    """All parts hold."""
    return _All(parts)


def either(*parts: Condition) -> Condition:
    """At least one part holds."""
    return _Any(parts)


def no(part: Condition) -> Condition:
    """The part does not hold."""
    return _Not(part)


ALWAYS = both()
"""Holds for every file."""


def within(view: Callable[[Names], Names], part: Condition) -> Condition:
    """The part holds for what a view shows of the names."""
    return _Within(lambda names: names.once(view), part)


def denoiser(part: Condition) -> Condition:
    """The part holds for the denoiser, named without its prefix."""
    return _Within(lambda names: names.denoiser, part)


def vae(part: Condition) -> Condition:
    """The part holds for the autoencoder, named without its prefix."""
    return _Within(lambda names: names.vae, part)


def whole_file(part: Condition) -> Condition:
    """Of a part of a file: the part holds for the whole file."""
    return _Within(lambda names: names.whole, part)


def fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a shape is as wanted; None stands for any size."""
    return len(found) == len(wanted) and all(
        size is None or size == seen for seen, size in zip(found, wanted, strict=True)
    )
