"""Rows that stand for a model: one run of each weight, the same in every file.

Rows are runs of bytes: of a file of gigabytes only a few megabytes are read. Which rows are taken
depends on names and shapes alone.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from converters.dtypes import CODES
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    Values = NDArray[float32]

Shape = tuple[int, ...]

_LEAST = 1 << 15
"""Values that are wanted of a slot of few weights."""


@dataclass(frozen=True, slots=True)
class Run:
    """Rows `start` to `stop` of a tensor of a shape; `slot` is the block that it belongs to."""

    name: str
    slot: str
    shape: Shape
    start: int
    stop: int

    @property
    def numel(self) -> int:
        """How many values these are."""
        return (self.stop - self.start) * math.prod(self.shape[1:])


@dataclass(frozen=True)
class Sample:
    """Runs of a component's weights, those of a slot side by side."""

    runs: tuple[Run, ...]

    @property
    def numel(self) -> int:
        """How many values these are."""
        return sum(run.numel for run in self.runs)

    @cached_property
    def bounds(self) -> Mapping[str, tuple[int, int]]:
        """Slot -> where its values begin and end."""
        found: dict[str, tuple[int, int]] = {}
        at = 0
        for run in self.runs:
            begin, _ = found.get(run.slot, (at, at))
            found[run.slot] = begin, at + run.numel
            at += run.numel
        return found

    def without(self, names: frozenset[str]) -> Sample:
        """The runs of other tensors."""
        return Sample(tuple(run for run in self.runs if run.name not in names))

    def thinned(self, step: int) -> Sample:
        """Every `step`-th run of each slot, the first of each always."""
        seen: dict[str, int] = {}
        kept = []
        for run in self.runs:
            seen[run.slot] = seen.get(run.slot, -1) + 1
            if seen[run.slot] % step == 0:
                kept.append(run)
        return Sample(tuple(kept))


def choose_sample(part: StateDict, slots: Mapping[str, str], values: int) -> Sample:
    """About so many values of a component, from each of its matrices and convolutions.

    `slots` names the block of each tensor; those that it does not name are one more block.
    """
    weights = {name: tensor for name, tensor in part.items() if _is_weight(tensor)}
    share = values // max(1, len(weights))
    counts = Counter(slots.get(name, "") for name in weights)
    runs = []
    for name, tensor in weights.items():
        slot = slots.get(name, "")
        runs.append(_run(name, slot, tensor, max(share, _LEAST // counts[slot])))
    return Sample(tuple(sorted(runs, key=lambda run: (run.slot, run.name))))


def _is_weight(tensor: LazyTensor) -> bool:
    is_number = tensor.dtype.is_float and tensor.dtype not in CODES
    return is_number and len(bare(tensor.shape)) >= 2 and bool(tensor.numel)


def _run(name: str, slot: str, tensor: LazyTensor, values: int) -> Run:
    rows = tensor.shape[0]
    count = min(max(1, values // math.prod(tensor.shape[1:])), rows)
    start = zlib.crc32(name.encode("utf-8", "surrogatepass")) % (rows - count + 1)
    return Run(name, slot, tensor.shape, start, start + count)


def bare(shape: Shape) -> Shape:
    """A shape without the ones at its end: a layer is a 1x1 convolution here and linear there."""
    while shape[-1:] == (1,):
        shape = shape[:-1]
    return shape


def lacking(part: StateDict, sample: Sample) -> frozenset[str]:
    """The tensors of a sample that a part does not have in the same shape."""
    return frozenset(run.name for run in sample.runs if not _has(part.get(run.name), run))


def _has(tensor: LazyTensor | None, run: Run) -> bool:
    return tensor is not None and _is_weight(tensor) and bare(tensor.shape) == bare(run.shape)


def read_sample(part: StateDict, sample: Sample) -> Values:
    """The values of a sample in float32, one after the other. Raises FileProblem."""
    import numpy as np

    values = np.empty(sample.numel, np.float32)
    for tensor, place in _pieces(part, sample.runs):
        values[place] = _numbers(tensor)
    return values


def _pieces(part: StateDict, runs: Sequence[Run]) -> Iterator[tuple[LazyTensor, slice]]:
    at = 0
    for run in runs:
        yield part[run.name].slice0(run.start, run.stop), slice(at, at + run.numel)
        at += run.numel


def _numbers(tensor: LazyTensor) -> Values:
    from converters.compute import value

    numbers: Values = value(tensor).float().reshape(-1).numpy()
    return numbers
