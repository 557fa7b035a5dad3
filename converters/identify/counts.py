"""How many tensors and parameters each component of a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from converters.identify.identity import Component
from converters.layouts.components import component_of
from converters.statedict import StateDict


def components(
    sd: StateDict, name_of: Callable[[str], str] = component_of
) -> tuple[Component, ...]:
    """The components in a stable order; `name_of` says where a tensor belongs."""
    counts: dict[str, tuple[int, int]] = {}
    for name, tensor in sd.items():
        part = name_of(name)
        tensors, parameters = counts.get(part, (0, 0))
        counts[part] = tensors + 1, parameters + tensor.numel
    return tuple(Component(part, *counts[part]) for part in sorted(counts))


def missing(what: str, expected: Iterable[str], sd: StateDict) -> tuple[str, ...]:
    """A sentence about the expected tensors that are not there; nothing when complete."""
    names = list(expected)
    absent = [name for name in names if name not in sd]
    if not absent:
        return ()
    share = f"{len(absent)} of {len(names)} tensors are missing"
    return (f"the {what} is incomplete: {share}, the first is {absent[0]}",)
