"""The one door to torch: lazy tensors become torch tensors here, and results become bytes.

torch is imported inside the functions, so that everything that only reads headers starts without
it. A tensor may be computed on another device than the CPU (`devices`); its inputs are then brought
there by `floats`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.bytesource import mapping, pread_into
from converters.devices import CPU, computing_on, device
from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.spare_memory import pinned_scratch, scratch
from converters.statedict import Buffer, Extent, LazyTensor

__all__ = [
    "Tensor",
    "buffer",
    "equal_words",
    "fill",
    "floats",
    "lazy",
    "lazy_runs",
    "mapped",
    "passing_value",
    "pour",
    "split",
    "stored_in",
    "torch_dtype",
    "value",
    "words",
    "zeros",
]

if TYPE_CHECKING:
    import torch
    from torch import Tensor  # noqa: TC004 - other modules name the type through this door

_TORCH_NAMES = {
    DType.BOOL: "bool",
    DType.U8: "uint8",
    DType.I8: "int8",
    DType.I16: "int16",
    DType.U16: "uint16",
    DType.I32: "int32",
    DType.U32: "uint32",
    DType.I64: "int64",
    DType.U64: "uint64",
    DType.F16: "float16",
    DType.BF16: "bfloat16",
    DType.F32: "float32",
    DType.F64: "float64",
    DType.C64: "complex64",
    DType.F8_E4M3: "float8_e4m3fn",
    DType.F8_E5M2: "float8_e5m2",
    DType.F8_E4M3FNUZ: "float8_e4m3fnuz",
    DType.F8_E5M2FNUZ: "float8_e5m2fnuz",
    DType.F8_E8M0: "float8_e8m0fnu",
}


@functools.cache
def torch_dtype(dtype: DType) -> torch.dtype:
    """Torch's name for an element type. Raises UnsupportedFile where torch has none (F6, F4)."""
    import torch

    name = _TORCH_NAMES.get(dtype)
    if name is None:
        raise UnsupportedFile(f"elements of type {dtype.label} cannot be computed with")
    found: torch.dtype = getattr(torch, name)
    return found


def value(tensor: LazyTensor) -> torch.Tensor:
    """The tensor on the CPU in its own element type; the caller may change it in place."""
    import torch

    dtype = torch_dtype(tensor.dtype)
    owned = _owned(tensor)
    if not tensor.numel:
        return torch.empty(tensor.shape, dtype=dtype)
    return torch.frombuffer(owned, dtype=dtype).reshape(tensor.shape)


def mapped(tensor: LazyTensor) -> torch.Tensor | None:
    """A stored tensor as the system maps its file into memory: nothing is read or copied.

    None where it does not lie in one piece of a local file, on a whole number of elements, and on
    Windows, where nobody could remove or replace a file that is mapped. Changing it in place is
    allowed and changes no file; the file must not be cut while it is in use.
    """
    import torch

    extents, dtype = tensor.extents, torch_dtype(tensor.dtype)
    if extents is None or len(extents) != 1 or not tensor.numel:
        return None
    whole = mapping(extents[0].source)
    if whole is None or extents[0].offset % dtype.itemsize:
        return None
    if extents[0].offset + tensor.nbytes > len(whole):
        return None  # reading it will say that the file is truncated
    flat = torch.frombuffer(whole, dtype=dtype, count=tensor.numel, offset=extents[0].offset)
    return flat.reshape(tensor.shape)


def fill(target: torch.Tensor, tensor: LazyTensor) -> None:
    """Write the values of a tensor into a contiguous one of any type, on any device.

    Nothing but what has to be computed or converted takes memory on the way, a piece at a time.
    """
    flat, first = target.view(-1), 0
    for piece in _pieces(tensor):
        own = flat[first : first + piece.numel]
        first += piece.numel
        if isinstance(piece.source, _Computed):
            own.copy_(piece.source.result().reshape(-1))
        elif isinstance(piece.source, _InRuns):
            piece.source.fill(own)
        elif piece.extents is None:
            own.copy_(value(piece).reshape(-1))
        elif own.dtype == torch_dtype(piece.dtype) and own.device.type == CPU:
            _read_into(own.view(torch_dtype(DType.U8)).numpy().data, piece.extents)
        else:
            own.copy_(passing_value(piece, pinned=own.device.type == "cuda"))


_PASSING = -1
"""The place in spare memory of those that name none."""

_PIECE_BYTES = 1 << 22
"""How much of a stored tensor is read at a time to be converted, within the processor's cache."""


def _pieces(tensor: LazyTensor) -> Iterator[LazyTensor]:
    if tensor.extents is None:
        yield from tensor.pieces or (tensor,)
        return
    step = max(1, _PIECE_BYTES * 8 // tensor.dtype.bits)
    yield from tensor.reshape((tensor.numel,)).parts(step)


def zeros(shape: tuple[int, ...]) -> torch.Tensor:
    """Zeros in float32."""
    import torch

    return torch.zeros(shape)


def passing_value(tensor: LazyTensor, *, pinned: bool = False) -> torch.Tensor:
    """As `value`, for a stored tensor, in memory that the thread's next call uses again.

    Memory that was touched before is several times as quick as new memory. CUDA takes what is
    `pinned`, where that can be had, straight from there.
    """
    import torch

    view = (pinned_scratch(tensor.nbytes) if pinned else None) or scratch(tensor.nbytes, _PASSING)
    _read_into(view, tensor.extents or ())
    dtype = torch_dtype(tensor.dtype)
    if not tensor.numel:
        return torch.empty(tensor.shape, dtype=dtype)
    return torch.frombuffer(view, dtype=dtype).reshape(tensor.shape)


def floats(tensor: LazyTensor) -> torch.Tensor:
    """The tensor in float32 on the device that is computed on; the caller may change it."""
    source = tensor.source
    if isinstance(source, _Computed) and source.on == device():
        return source.result().to(torch_dtype(DType.F32), copy=True)
    is_copied = tensor.extents is not None and (device() != CPU or tensor.dtype is not DType.F32)
    return (passing_value if is_copied else value)(tensor).to(device()).float()


def pour(target: torch.Tensor, tensor: LazyTensor) -> None:
    """Write the values of a tensor into one of any type and any strides, on any device."""
    values = (value if tensor.extents is None else passing_value)(tensor)
    target.copy_(values.reshape(target.shape))


def stored_in(memory: memoryview, dtype: DType) -> torch.Tensor:
    """The elements of a type that lie in memory, one after the other, sharing it."""
    import torch

    return torch.frombuffer(memory, dtype=torch_dtype(dtype))


def split(tensor: torch.Tensor, count: int) -> Sequence[torch.Tensor]:
    """A flat tensor in parts of so many elements, the last with what is left; shares its memory."""
    import torch

    return torch.split(tensor, count)


def words(tensor: torch.Tensor) -> torch.Tensor:
    """The bytes of a flat tensor as the largest words that they fill, sharing its memory."""
    import torch

    return tensor.view(torch.uint8 if tensor.nbytes % 8 else torch.int64)


def equal_words(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether words are the same (of floats, NaN would be less equal than others)."""
    import torch

    return torch.equal(one, other)


def _owned(tensor: LazyTensor) -> bytearray:
    """The tensor's bytes in memory that may be changed, read there without another copy."""
    if tensor.extents is None and not tensor.pieces:
        data = tensor.read()
        return data if isinstance(data, bytearray) else bytearray(data)
    owned = bytearray(tensor.nbytes)
    view = memoryview(owned)
    if tensor.extents is not None:
        _read_into(view, tensor.extents)
    for piece in tensor.pieces:
        view[: piece.nbytes] = piece.read()
        view = view[piece.nbytes :]
    return owned


def _read_into(view: memoryview, extents: Sequence[Extent]) -> None:
    for extent in extents:
        pread_into(extent.source, extent.offset, view[: extent.nbytes])
        view = view[extent.nbytes :]


def buffer(tensor: torch.Tensor) -> Buffer:
    """The bytes of a tensor in C order, little endian (torch runs on little-endian machines)."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if not flat.numel():
        return b""
    raw: Buffer = flat.view(torch.uint8).numpy().data
    return raw


def lazy(
    dtype: DType,
    shape: Sequence[int],
    compute: Callable[[], torch.Tensor],
    origin: str,
    *,
    inputs: Sequence[LazyTensor] = (),
    on: str = CPU,
) -> LazyTensor:
    """A tensor that `compute` makes when it is read, on the device `on`.

    `inputs` are the tensors it is made of: the writer checks their files for change at the end.
    """
    return LazyTensor(
        dtype,
        tuple(shape),
        _Computed(compute, dtype, on),
        origin,
        tuple(dict.fromkeys(source for tensor in inputs for source in tensor.sources)),
    )


def lazy_runs(
    dtype: DType,
    shape: Sequence[int],
    compute: Callable[[torch.Tensor | None], Iterator[torch.Tensor]],
    origin: str,
    *,
    inputs: Sequence[LazyTensor] = (),
    on: str = CPU,
    pieces: tuple[LazyTensor, ...] = (),
) -> LazyTensor:
    """As `lazy`, a run of its elements after the other, in memory that the next one uses again.

    `compute` may be given memory for all of them, in float32, on the device `on`, to make them in.
    """
    source = _InRuns(compute, dtype, math.prod(shape), on)
    read = dict.fromkeys(source for tensor in inputs for source in tensor.sources)
    return LazyTensor(dtype, tuple(shape), source, origin, tuple(read), pieces)


@dataclass(frozen=True, slots=True, eq=False)
class _Computed:
    """The source of a computed tensor."""

    compute: Callable[[], torch.Tensor]
    dtype: DType
    on: str

    def __call__(self) -> Buffer:
        return buffer(self.result())

    def result(self) -> torch.Tensor:
        """The values, on the device they are computed on."""
        with computing_on(self.on):
            return self.compute().to(torch_dtype(self.dtype))


@dataclass(frozen=True, slots=True, eq=False)
class _InRuns:
    """The source of a tensor that is computed a run of its elements after the other."""

    compute: Callable[[torch.Tensor | None], Iterator[torch.Tensor]]
    dtype: DType
    count: int
    on: str

    def __call__(self) -> Buffer:
        import torch

        whole = torch.empty(self.count, dtype=torch_dtype(self.dtype))
        self.fill(whole)
        return buffer(whole)

    def fill(self, flat: torch.Tensor) -> None:
        """Write the values, in their order, into a tensor of any type, on any device."""
        import torch

        is_it = self.dtype is DType.F32 and (flat.dtype, flat.device.type) == (
            torch.float32,
            self.on,
        )
        first = 0
        with computing_on(self.on):
            for run in self.compute(flat if is_it else None):
                own = flat[first : first + run.numel()]
                if own.data_ptr() != run.data_ptr():
                    own.copy_(run.view(-1))
                first += run.numel()

    def runs(self) -> Iterator[Buffer]:
        """The bytes of each, good until the next is asked for."""
        known: torch.Tensor | None = None
        raw: Buffer = b""
        with computing_on(self.on):
            for run in self.compute(None):
                # Most runs are made in the memory of the one before; asking for it takes a while.
                if run is not known or self.on != CPU or not run.is_contiguous():
                    known, raw = run, buffer(run)
                yield raw
