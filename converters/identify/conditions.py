"""Conditions over tensor names and shapes, as values that rows are written with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from converters.statedict import LazyTensor

Tensors = Mapping[str, LazyTensor]


class Condition(Protocol):
    """Something that holds, or does not, for the tensors of a file."""

    def holds(self, tensors: Tensors) -> bool:
        """Whether it does."""


@dataclass(frozen=True, slots=True)
class _Present:
    names: tuple[str, ...]
    every: bool

    def holds(self, tensors: Tensors) -> bool:
        found = (name in tensors for name in self.names)
        return all(found) if self.every else any(found)


@dataclass(frozen=True, slots=True)
class _Prefixed:
    prefixes: tuple[str, ...]

    def holds(self, tensors: Tensors) -> bool:
        return any(name.startswith(self.prefixes) for name in tensors)


@dataclass(frozen=True, slots=True)
class _Matching:
    pattern: re.Pattern[str]
    share: float

    def holds(self, tensors: Tensors) -> bool:
        found = sum(1 for name in tensors if self.pattern.search(name))
        return found > self.share * len(tensors)


@dataclass(frozen=True, slots=True)
class _Shaped:
    name: str
    shape: tuple[int | None, ...]

    def holds(self, tensors: Tensors) -> bool:
        tensor = tensors.get(self.name)
        return tensor is not None and fits(tensor.shape, self.shape)


@dataclass(frozen=True, slots=True)
class _All:
    parts: tuple[Condition, ...]

    def holds(self, tensors: Tensors) -> bool:
        return all(part.holds(tensors) for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Any:
    parts: tuple[Condition, ...]

    def holds(self, tensors: Tensors) -> bool:
        return any(part.holds(tensors) for part in self.parts)


@dataclass(frozen=True, slots=True)
class _Not:
    part: Condition

    def holds(self, tensors: Tensors) -> bool:
        return not self.part.holds(tensors)


def has_all(*names: str) -> Condition:
    """All of these tensors are there."""
    return _Present(names, every=True)


def has_any(*names: str) -> Condition:
    """At least one of these tensors is there."""
    return _Present(names, every=False)


def has_prefix(*prefixes: str) -> Condition:
    """A name begins with one of these."""
    return _Prefixed(prefixes)


def matching(pattern: str, *, share: float = 0.0) -> Condition:
    """More than this share of all names contain the pattern (by default: at least one)."""
    return _Matching(re.compile(pattern), share)


def shape(name: str, *sizes: int | None) -> Condition:
    """The tensor has this shape; None stands for any size."""
    return _Shaped(name, sizes)


def both(*parts: Condition) -> Condition:
    """All parts hold."""
    return _All(parts)


def either(*parts: Condition) -> Condition:
    """At least one part holds."""
    return _Any(parts)


def no(part: Condition) -> Condition:
    """The part does not hold."""
    return _Not(part)


def fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a shape is as wanted; None stands for any size."""
    return len(found) == len(wanted) and all(
        size is None or size == seen for seen, size in zip(found, wanted, strict=True)
    )
