"""Which tensors of two models differ, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from converters.progress import SILENT, Progress
from converters.statedict import StateDict


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor that is not the same in both, and how it differs."""

    name: str
    how: str


def differences(
    left: StateDict, right: StateDict, progress: Progress = SILENT
) -> Iterator[Difference]:
    """The tensors that differ, in name, type, shape or values; reads both, a tensor at a time."""
    for name in sorted({*left, *right}):
        ours, theirs = left.get(name), right.get(name)
        if ours is None or theirs is None:
            place = "second" if ours is None else "first"
            yield Difference(name, f"is only in the {place}")
        elif (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
            kinds = (f"{t.dtype.label} {list(t.shape)}" for t in (ours, theirs))
            yield Difference(name, f"is {' and '.join(kinds)}")
        else:
            if memoryview(ours.read()).cast("B") != memoryview(theirs.read()).cast("B"):
                yield Difference(name, "has other values")
            progress.advance(ours.nbytes)
