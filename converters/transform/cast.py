"""Change of precision, tensor by tensor, when the writer asks for it.

Types and their ranges: IEEE 754 (fp16, fp32), bfloat16, and OCP 8-bit floating point: e4m3fn
(largest 448, no infinity) and e5m2 (largest 57,344).
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import TYPE_CHECKING

from converters.dtypes import DType
from converters.errors import Overflow
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.compute import Tensor


PIECE = 1 << 20
"""Elements that are cast at a time."""


class OnOverflow(StrEnum):
    """What becomes of a tensor with finite values that the new type cannot hold.

    KEEP leaves the whole tensor in its old type, CLAMP writes the largest value instead, FAIL
    stops.
    """

    KEEP = "keep"
    CLAMP = "clamp"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CastLoss:
    """What a cast cost a tensor, counted in values.

    `clamped` were too large, `vanished` became zero, `nan` were no numbers before.
    """

    tensor: str
    clamped: int
    vanished: int
    nan: int


@dataclass(slots=True)
class CastLog:
    """The losses of the tensors that were computed so far, by name; threads may add to it."""

    losses: dict[str, CastLoss] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @property
    def clamped(self) -> dict[str, int]:
        """The tensors with values that were too large for their type, and how many."""
        return {name: loss.clamped for name, loss in self.losses.items() if loss.clamped}

    def add(self, loss: CastLoss) -> None:
        """Count what another piece of a tensor lost."""
        with self._lock:
            before = self.losses.get(loss.tensor, CastLoss(loss.tensor, 0, 0, 0))
            self.losses[loss.tensor] = CastLoss(
                loss.tensor,
                before.clamped + loss.clamped,
                before.vanished + loss.vanished,
                before.nan + loss.nan,
            )


def cast(
    state: StateDict,
    dtype: DType,
    *,
    clamp: bool = False,
    exempt: Collection[str] = (),
    log: CastLog | None = None,
) -> StateDict:
    """All real floating-point tensors in another element type, but for the `exempt` names.

    Tensors that already have it stay stored bytes; integers, booleans and `position_ids` (indices,
    sometimes stored as floats by accident) are never touched. Reading a tensor with a finite value
    that the new type cannot hold raises Overflow unless `clamp`: an infinity in the file would
    render black. What reading them cost goes into `log`.
    """

    def change(name: str, tensor: LazyTensor) -> LazyTensor:
        if name in exempt or not _changes(name, tensor, dtype):
            return tensor
        return _cast_tensor(_Cast(name, dtype, clamp, log or CastLog()), tensor)

    return state.map(change)


@dataclass(frozen=True, slots=True)
class _Cast:
    name: str
    dtype: DType
    clamp: bool
    log: CastLog


def _cast_tensor(wanted: _Cast, tensor: LazyTensor) -> LazyTensor:
    """A stored tensor in pieces that stay in the processor's cache, a computed one as a whole."""
    from converters.compute import lazy

    parts = list(tensor.parts(PIECE))
    if len(parts) < 2:
        compute = functools.partial(_converted, wanted, tensor)
        return lazy(wanted.dtype, tensor.shape, compute, tensor.origin, inputs=[tensor])
    pieces = tuple(_cast_tensor(wanted, part) for part in parts)
    return LazyTensor(
        wanted.dtype,
        tensor.shape,
        lambda: b"".join(piece.read() for piece in pieces),
        tensor.origin,
        tensor.sources,
        pieces,
    )


def overflowing(state: StateDict, dtype: DType, progress: Progress = SILENT) -> frozenset[str]:
    """The names of the tensors that would raise Overflow; reads all that the cast would change."""
    found = set()
    for name, tensor in state.items():
        if _changes(name, tensor, dtype):
            if any(_rounded(run, dtype).lost for run in tensor.parts(PIECE)):
                found.add(name)
            progress.advance(tensor.nbytes)
    return frozenset(found)


def _changes(name: str, tensor: LazyTensor, dtype: DType) -> bool:
    is_index = name.endswith("position_ids")
    return tensor.dtype is not dtype and tensor.dtype.is_float and not is_index


@dataclass(frozen=True, slots=True)
class _Rounded:
    """A tensor before and after, how many finite values were `lost`, and how many were NaN."""

    original: Tensor
    result: Tensor
    lost: int
    nan: int


def _rounded(tensor: LazyTensor, dtype: DType) -> _Rounded:
    from converters.compute import passing_value, torch_dtype, value

    original = value(tensor) if tensor.extents is None else passing_value(tensor)
    if tensor.dtype is DType.F64 and dtype is not DType.F32:
        original = _to_odd(original)
    result = original.to(torch_dtype(dtype))
    if not original.numel():
        return _Rounded(original, result, 0, 0)
    values = _countable(original)
    low, high = values.aminmax()
    if -dtype.overflow < low and high < dtype.overflow:  # False for NaN
        return _Rounded(original, result, 0, 0)
    lost = values.isfinite() & (values.abs() >= dtype.overflow)
    return _Rounded(original, result, int(lost.sum()), int(values.isnan().sum()))


def _to_odd(values: Tensor) -> Tensor:
    """Doubles in float32, such that rounding these to a narrower type is rounding the doubles.

    torch makes halves of doubles by way of float32 and so rounds twice: what lies just beside the
    middle of two halves goes to the middle first, and from there perhaps to the wrong one. Here, of
    the two neighbours of a double that is no float32, the one with an odd last bit is taken, which
    is no such middle. Source: Boldo and Melquiond, Emulation of a FMA and correctly rounded sums:
    proved algorithms using rounding to odd (2008).
    """
    from converters.compute import torch_dtype

    near = values.float()
    back, bits = near.double(), near.view(torch_dtype(DType.I32))
    towards_zero = bits - (back.abs() > values.abs()).int()  # the pattern below is the next number
    is_exact = (back == values) | values.isnan()
    return bits.where(is_exact, towards_zero | 1).view(near.dtype)


def _countable(values: Tensor) -> Tensor:
    """Values in a type that all of torch's functions take; bytes are too few for them."""
    return values.float() if values.element_size() == 1 else values


def _converted(wanted: _Cast, tensor: LazyTensor) -> Tensor:
    dtype = wanted.dtype
    rounded = _rounded(tensor, dtype)
    original, result = rounded.original, rounded.result
    if rounded.lost and not wanted.clamp:
        raise Overflow(
            f"{wanted.name}: {rounded.lost} values are too large for {dtype.label}",
            path=tensor.origin,
            hint="bf16 and fp32 hold every value of these files",
        )
    if rounded.lost:
        held = original.clamp(-dtype.largest, dtype.largest)
        result = held.where(original.isfinite(), original).to(result.dtype)
    vanished = int(_countable(original).count_nonzero() - _countable(result).count_nonzero())
    if rounded.lost or vanished or rounded.nan:
        wanted.log.add(CastLoss(wanted.name, rounded.lost, vanished, rounded.nan))
    return result
