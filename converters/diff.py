"""Which tensors of two models differ, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from converters.progress import SILENT, Progress
from converters.statedict import Blocks, LazyTensor, StateDict
from converters.weights import TensorDigest

_T = TypeVar("_T")
_Kind = tuple[str, tuple[int, ...]]
"""The label of a type, and a shape."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor that is not the same in both, and how it differs."""

    name: str
    how: str


def differences(
    left: StateDict, right: StateDict, progress: Progress = SILENT, *, as_stored: bool = True
) -> Iterator[Difference]:
    """The tensors that differ, in name, type, shape or values; reads both, a tensor at a time.

    Quantised ones are compared `as_stored`, or else by the values that they stand for.
    """

    def same(ours: LazyTensor, theirs: LazyTensor) -> bool:
        found = _bytes(ours, as_stored=as_stored) == _bytes(theirs, as_stored=as_stored)
        progress.advance(ours.nbytes)
        return found

    def kind(tensor: LazyTensor) -> tuple[str, tuple[int, ...]]:
        return tensor.stored[0] if as_stored else tensor.dtype.label, tensor.shape

    return _differences(left, right, kind, same)


def _bytes(tensor: LazyTensor, *, as_stored: bool) -> memoryview:
    source = tensor.source
    if as_stored and isinstance(source, Blocks):
        return memoryview(source.extent.read()).cast("B")
    return memoryview(tensor.read()).cast("B")


def are_comparable(left: Mapping[str, TensorDigest], right: Mapping[str, TensorDigest]) -> bool:
    """Whether digests tell what differs: a checksum says nothing of a digest."""
    return all(
        ours[:2] != theirs[:2] or _in_common(ours, theirs) is not None
        for name, ours in left.items()
        if (theirs := right.get(name)) is not None
    )


def digest_differences(
    left: Mapping[str, TensorDigest], right: Mapping[str, TensorDigest]
) -> Iterator[Difference]:
    """The same of tensors that are known by their digests; reads nothing."""

    def same(ours: TensorDigest, theirs: TensorDigest) -> bool:
        found = _in_common(ours, theirs)
        return found is not None and found[0] == found[1]

    return _differences(left, right, lambda tensor: tensor[:2], same)


def _in_common(ours: TensorDigest, theirs: TensorDigest) -> tuple[bytes, bytes] | None:
    """What is of one sort of two tensors, digests or checksums."""
    pairs = (
        (ours.digest, theirs.digest),
        (ours.digest, theirs.other),
        (ours.other, theirs.digest),
    )
    return next((pair for pair in pairs if len(pair[0]) == len(pair[1])), None)


def _differences(
    left: Mapping[str, _T],
    right: Mapping[str, _T],
    kind_of: Callable[[_T], _Kind],
    same: Callable[[_T, _T], bool],
) -> Iterator[Difference]:
    for name in sorted({*left, *right}):
        ours, theirs = left.get(name), right.get(name)
        if ours is None or theirs is None:
            place = "second" if ours is None else "first"
            yield Difference(name, f"is only in the {place}")
        elif kind_of(ours) != kind_of(theirs):
            kinds = (f"{label} {list(shape)}" for label, shape in map(kind_of, (ours, theirs)))
            yield Difference(name, f"is {' and '.join(kinds)}")
        elif not same(ours, theirs):
            yield Difference(name, "has other values")
