"""Tensors of a pipeline and of a single file, side by side under the names of `canonical`.

Both are named `<component>.<tensor>`, as the libraries of pipelines spell them. Components whose
layouts differ in more than names (fused matrices, as in Flux) have no tensors to compare.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from converters.bytesource import MemoryBytes
from converters.canonical import canonical_parts
from converters.digest import squeezed
from converters.dtypes import BY_LABEL, DType
from converters.layouts.components import UNET, component_of
from converters.layouts.pipeline import is_pipeline_state
from converters.statedict import Extent, LazyTensor, StateDict
from converters.weights import TensorDigest

T = TypeVar("T")
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Tensors by name, each with the label of its type and its shape."""

_DENOISERS = frozenset({UNET, "transformer"})
"""How one part is called in single files, and in pipelines of younger families."""


@dataclass(frozen=True, slots=True)
class Spelled(Generic[T]):
    """The tensors of a model by component and name, and those that belong to no component."""

    parts: Mapping[str, Mapping[str, T]]
    rest: Mapping[str, T]


@dataclass(frozen=True, slots=True)
class SideBySide(Generic[T]):
    """The tensors of two models by the names that they are compared under.

    `unlike` are components of the first whose tensors have no counterparts in the second.
    """

    left: Mapping[str, T]
    right: Mapping[str, T]
    unlike: tuple[str, ...]


def spelled(state: StateDict, kind: str) -> Spelled[LazyTensor]:
    """The tensors of a file or a pipeline of this kind; reads nothing."""
    parts = _parts(state, kind)
    shapes = {name: (tensor.dtype.label, tensor.shape) for name, tensor in state.items()}
    rest = _rest_of(_outline(shapes), kind)
    return Spelled(parts, {new: state[name] for name, new in rest.items()})


def spelled_of_digests(
    parts: Mapping[str, Mapping[str, TensorDigest]],
    tensors: Mapping[str, TensorDigest],
    kind: str,
) -> Spelled[TensorDigest] | None:
    """The same of what was kept of a model of this kind: its components, and all its tensors.

    None where these are not the components that it has: some were not kept, or it was of another
    kind, or of other rules, then. What they leave out would count as equal.
    """
    outline = _outline({name: each[:2] for name, each in tensors.items()})
    expected = {part: inner.keys() for part, inner in _parts(outline, kind).items()}
    if expected != {part: inner.keys() for part, inner in parts.items()}:
        return None
    rest = _rest_of(outline, kind)
    return Spelled(parts, {new: tensors[name] for name, new in rest.items()})


def _parts(state: StateDict, kind: str) -> Mapping[str, StateDict]:
    return {part: squeezed(inner) for part, inner in canonical_parts(state, kind).items()}


def _outline(shapes: Shapes) -> StateDict:
    """Tensors to be renamed; the source of each is called as it is."""
    return StateDict({name: _without_values(name, *kind) for name, kind in shapes.items()})


def _rest_of(outline: StateDict, kind: str) -> Mapping[str, str]:
    """What no component of a model has, and the names that it is compared under.

    These are the component's and the last of its own, if no other has that: of buffers and
    counters, which are spelled alike everywhere.
    """
    used = {
        source.name
        for part in canonical_parts(outline, kind).values()
        for tensor in part.values()
        for source in tensor.sources
    }
    folders = is_pipeline_state(outline)
    named = {
        name: f"{name.partition('.')[0] if folders else component_of(name)}.{_last(name)}"
        for name in outline.keys() - used
    }
    times = Counter(named.values())
    return {name: new if times[new] == 1 else name for name, new in sorted(named.items())}


def side_by_side(left: Spelled[T], right: Spelled[T]) -> SideBySide[T]:
    """Put the components of two models beside each other."""
    pairs = dict(_pairs(left.parts, right.parts))
    unlike = {name for name, other in pairs.items() if not _are_alike(left, name, right, other)}
    back = {other: name for name, other in pairs.items()}
    return SideBySide(
        dict(_flat(left, {name: name for name in left.parts if name not in unlike})),
        dict(
            _flat(
                right,
                {name: own for name in right.parts if (own := back.get(name, name)) not in unlike},
            )
        ),
        tuple(sorted(unlike)),
    )


def _pairs(
    left: Mapping[str, Mapping[str, T]], right: Mapping[str, Mapping[str, T]]
) -> Iterator[tuple[str, str]]:
    """Components of one name; the denoisers; then text encoders by what they have in common."""
    yield from ((name, name) for name in left if name in right)
    ours, theirs = ([n for n in a if n not in b] for a, b in ((left, right), (right, left)))
    for name in ours:
        found = [other for other in theirs if {name, other} <= _DENOISERS]
        shared = {other: len(left[name].keys() & right[other].keys()) for other in theirs}
        best = max(shared, key=shared.__getitem__, default=None)
        if not found and best is not None and shared[best]:
            found = [best]
        for other in found:
            theirs.remove(other)
            yield name, other


def _are_alike(left: Spelled[T], ours: str, right: Spelled[T], theirs: str) -> bool:
    """Whether most tensors of a component have counterparts."""
    mine, others = left.parts[ours], right.parts[theirs]
    return 2 * len(mine.keys() & others.keys()) >= min(len(mine), len(others))


def _flat(side: Spelled[T], names: Mapping[str, str]) -> Iterator[tuple[str, T]]:
    for part, shown in names.items():
        yield from ((f"{shown}.{name}", each) for name, each in side.parts[part].items())
    yield from side.rest.items()


def _without_values(name: str, label: str, shape: tuple[int, ...]) -> LazyTensor:
    dtype = BY_LABEL.get(label, DType.F32)
    nbytes = -(-math.prod(shape) * dtype.bits // 8)
    return LazyTensor(dtype, shape, (Extent(MemoryBytes(b"", name), 0, nbytes),), name)


def _last(name: str) -> str:
    return name.rpartition(".")[2]
