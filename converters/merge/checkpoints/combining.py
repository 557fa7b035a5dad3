"""One tensor of a merge, computed when it is read: in float32, rounded once, block by block.

Blocks small enough to stay in the processor's cache make the arithmetic as quick as reading, and
need the memory of the result alone. Where the stored bytes make the answer plain, they are it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from converters.adapters.finite import all_finite, clamp, reach
from converters.dtypes import DType
from converters.errors import MergeProblem
from converters.merge.checkpoints.method import A, Method, Numbers, Spread
from converters.merge.reading import Reader, joined
from converters.statedict import LazyTensor, StateDict
from converters.transform.cast import PIECE, CastLog, CastLoss, cast

if TYPE_CHECKING:
    from converters.compute import Tensor

_BLOCK_ELEMENTS = 1 << 17
"""Two models widened, and what is made of them, take half of a processor's second cache."""
_BLOCKS_READ = 4
"""Blocks that are read and written at a time: calls of the system cost as much as arithmetic."""


@dataclass(slots=True)
class MergeLog:
    """The tensors read so far that are not A's bytes after all; threads may add to it.

    `casts` has what rounding cost.
    """

    changed: set[str] = field(default_factory=set)
    casts: CastLog = field(default_factory=CastLog)


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor as the models that take part have it, and how it is merged.

    `files` are the models' names, for messages; `dtype` is that of the result, whose largest number
    stands for what is larger if `clamped`.
    """

    name: str
    inputs: tuple[LazyTensor, ...]
    files: tuple[str, ...]
    method: Method
    numbers: Numbers
    dtype: DType
    clamped: bool = False


class Survey:
    """What a method finds when it looks at all parts; done once, when it is first asked."""

    def __init__(self, method: Method, parts: Sequence[Part]) -> None:
        self._method, self._parts = method, parts
        self._lock = threading.Lock()
        self._found: Spread | None = None

    def __call__(self) -> Spread:
        """The lowest and highest value. Raises FileProblem, MergeProblem for what is no number."""
        with self._lock:
            if self._found is None and self._method.survey is not None:
                self._found = self._method.survey(map(_numbers_of, self._parts))
            return self._found or Numbers().spread


def merged_tensor(part: Part, survey: Survey, log: MergeLog) -> LazyTensor:
    """The merged tensor, to be computed when it is read, as a whole or piece by piece.

    Reading raises MergeProblem when a value of a model or of the result is not finite.
    """
    whole = _lazy(part, survey, log)
    return replace(whole, pieces=tuple(_lazy(run, survey, log) for run in _pieces(part)))


def _lazy(part: Part, survey: Survey, log: MergeLog) -> LazyTensor:
    from converters.compute import lazy_runs

    compute = partial(_runs, part, survey, log)
    origin = " + ".join(part.files)
    return lazy_runs(part.dtype, part.inputs[A].shape, compute, origin, inputs=part.inputs)


def _pieces(part: Part) -> Iterator[Part]:
    """The part as several with fewer elements; none where the method needs to see them all."""
    count = part.inputs[A].numel
    stored = all(tensor.extents is not None for tensor in part.inputs)
    alike = len({tensor.shape for tensor in part.inputs}) == 1
    if not (part.method.elementwise and stored and alike and count > PIECE):
        return
    flat = [tensor.reshape((count,)) for tensor in part.inputs]
    for start in range(0, count, PIECE):
        stop = min(start + PIECE, count)
        yield replace(part, inputs=tuple(tensor.slice0(start, stop) for tensor in flat))


def _runs(part: Part, survey: Survey, log: MergeLog, _: Tensor | None) -> Iterator[Tensor]:
    """The values, as many at a time as the method allows."""
    numbers = part.numbers
    if part.method.survey is not None:
        numbers = replace(numbers, spread=survey())
    part = replace(part, numbers=numbers)
    if part.inputs[A].shape != part.inputs[-1].shape:
        log.changed.add(part.name)
        yield _first_channels(part, log)
        return
    yield from _by_blocks(part, log)


def _by_blocks(part: Part, log: MergeLog) -> Iterator[Tensor]:
    """All elements, in blocks where the method allows."""
    first = part.inputs[A]
    block = _BLOCK_ELEMENTS if part.method.elementwise else max(1, first.numel)
    size = block * _BLOCKS_READ
    readers = [Reader(tensor, place, block) for place, tensor in enumerate(part.inputs)]
    for start in range(0, first.numel, size):
        stop = min(start + size, first.numel)
        for reader in readers:
            reader.read(start, stop)
        blocks = range(math.ceil((stop - start) / block))
        values = (_block(part, readers, number, log) for number in blocks)
        yield joined(values, part.dtype, stop - start)


def _block(part: Part, readers: Sequence[Reader], number: int, log: MergeLog) -> Tensor:
    """The values of a block of what was read, rounded or not."""
    watched = [readers[n] for n in part.method.alike] or readers
    if _alike(watched, number):
        return _own(part, readers[A].stored(number), log)
    log.changed.add(part.name)
    models = [reader.floats(number) for reader in readers]
    if not part.method.elementwise:
        models = [model.view(part.inputs[A].shape) for model in models]
    return _held_in(part, part.method.combine(models, part.numbers), log)


def _alike(readers: Sequence[Reader], block: int) -> bool:
    """Whether the method would change nothing about A's elements: those it looks at are equal."""
    first, *others = readers
    return all(first.equals(other, block) for other in others)


def _own(part: Part, stored: LazyTensor, log: MergeLog) -> Tensor:
    """A's elements in the type of the result. Raises Overflow."""
    from converters.compute import value

    alone = StateDict({part.name: stored})
    return value(cast(alone, part.dtype, clamp=part.clamped, log=log.casts)[part.name])


def _held_in(part: Part, result: Tensor, log: MergeLog) -> Tensor:
    """Merged values that the type of the result can hold. Raises MergeProblem."""
    if not all_finite(result, part.dtype):
        lost = clamp(result, part.dtype) if part.clamped else None
        if lost is None:
            raise _not_finite(part, result)
        log.casts.add(CastLoss(part.name, lost, 0, 0))
    return result


def _first_channels(part: Part, log: MergeLog) -> Tensor:
    """A, with the input channels that the other models have merged."""
    models = _whole_tensors(part)
    merged = _held_in(part, part.method.combine(models, part.numbers), log)
    result = _own(part, part.inputs[A], log)
    result[:, : merged.shape[1]] = merged.to(result.dtype)
    return result


def _whole_tensors(part: Part) -> list[Tensor]:
    """The tensors, of A's only the input channels that the other models have."""
    from converters.compute import value

    first, *others = (value(tensor).float() for tensor in part.inputs)
    if others and first.shape != others[0].shape:
        first = first[:, : others[0].shape[1]].contiguous()
    return [first, *others]


def _numbers_of(part: Part) -> list[Tensor]:
    """The whole tensors. Raises MergeProblem naming the model in which one is not finite."""
    tensors = _whole_tensors(part)
    for file, values in zip(part.files, tensors, strict=True):
        if not all_finite(values):
            cause = f"{part.name} holds NaN or infinite values before the merge"
            raise MergeProblem(cause, path=file)
    return tensors


def _not_finite(part: Part, result: Tensor) -> MergeProblem:
    try:
        _numbers_of(part)
    except MergeProblem as error:
        return error
    return MergeProblem(
        f"{part.name} leaves the range of {part.dtype.label}{reach(result)}",
        path=part.files[A],
        hint="merge with smaller weights, with --dtype fp32, or with --on-overflow clamp",
    )
