"""From tensor recipes in a pickle to lazy tensors over storages.

A recipe (`TensorRef`) is checked against its storage before anything is believed: the last element
it can touch must lie inside. Contiguous tensors become extents, strided ones a function that
gathers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from converters.bytesource import ByteSource, MemoryBytes
from converters.dtypes import BY_LABEL
from converters.pickles.constructors.arguments import is_count
from converters.pickles.values import Array, BadPickle, Global, StorageRef, TensorRef
from converters.statedict import Buffer, Extent, LazyTensor

MAX_EXPANSION = 16 << 20
"""Bytes by which a view with repeated elements may exceed its storage."""

_ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2,
    "int8": 1, "uint8": 1, "bool": 1, "uint16": 2, "uint32": 4, "uint64": 8, "complex64": 8,
    "complex128": 16, "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1,
    "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1, "qint8": 1, "quint8": 1, "qint32": 4,
    "float4_e2m1fn_x2": 1, "complex32": 4,
}  # fmt: skip
"""torch's element type -> bytes of one element."""

_LABELS = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64",
    "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL", "uint16": "U16",
    "uint32": "U32", "uint64": "U64", "complex64": "C64", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}  # fmt: skip
_ALIASES = {
    "double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32",
    "short": "int16",
}  # fmt: skip

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8", "QUInt8Storage": "quint8", "QInt32Storage": "qint32",
}  # fmt: skip
_RAW_STORAGES = {"UntypedStorage", "_UntypedStorage"}

_ARRAY_LABELS = {
    "f2": "F16", "f4": "F32", "f8": "F64", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64",
    "u1": "U8", "u2": "U16", "u4": "U32", "u8": "U64", "b1": "BOOL", "c8": "C64",
}  # fmt: skip


class Unread(Exception):
    """A tensor that is left out, with the reason."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A storage found in the file: an extent, or a function when its entry is packed."""

    source: ByteSource
    nbytes: int
    extent: Extent | None
    read: Callable[[], Buffer]

    @classmethod
    def at(cls, extent: Extent) -> Stored:
        """A storage that lies in the file as it is."""
        return cls(extent.source, extent.nbytes, extent, extent.read)


def persistent_object(identity: object) -> StorageRef | Global:
    """What a persistent id of torch stands for. Raises BadPickle when it is not one.

    `("storage", class, key, location, numel[, view])`: the location is where it once lived, the
    view, before torch 1.6, None or `(key, offset, numel)`;
    `("module", class, file, source)`, before torch 1.6: the class, its source text unread.
    """
    if not isinstance(identity, tuple) or len(identity) < 2 or not isinstance(identity[1], Global):
        raise BadPickle("it refers to an object outside the file")
    if identity[0] == "module":
        return identity[1]
    if identity[0] != "storage" or len(identity) < 5 or not isinstance(identity[2], str):
        raise BadPickle("it refers to an object outside the file")
    key, numel = identity[2], identity[4]
    if type(numel) is not int or not 0 <= numel < 1 << 62:
        raise BadPickle(f"storage {key[:40]} has a length that is not a number from 0 on")
    view = identity[5] if len(identity) > 5 else None
    return storage_ref(identity[1].name, key, numel, view)


def storage_ref(storage_class: str, key: str, numel: int, view: object) -> StorageRef:
    """A storage, or the part of it that `view` = (key, offset, numel) describes. Raises BadPickle.

    Offset and lengths count elements of the storage's class.
    """
    element = storage_element(storage_class)
    if view is None:
        return StorageRef(element, key, numel)
    if not isinstance(view, (tuple, list)) or len(view) != 3:
        raise BadPickle(f"a view of storage {key[:40]} that is not described by three values")
    offset, length = view[1:]
    if not is_count(offset) or not is_count(length) or offset + length > numel:
        raise BadPickle(f"a view that reaches outside storage {key[:40]} of {numel} elements")
    return StorageRef(element, key, numel, (offset, length))


def storage_element(storage_class: str) -> str | None:
    """Torch's element type of a storage class, None for raw bytes. Raises BadPickle."""
    if storage_class in _RAW_STORAGES:
        return None
    try:
        return _STORAGES[storage_class]
    except KeyError:
        raise BadPickle(f"a storage of the unknown class {storage_class[:60]}") from None


def storage_nbytes(storage: StorageRef) -> int:
    """Bytes that the storage claims, whatever part of it is viewed."""
    return storage.numel * _item_bytes(storage)


def stored_view(stored: Stored, storage: StorageRef) -> Stored:
    """The part of the stored bytes that the storage names. Raises BadPickle when it claims more."""
    if storage_nbytes(storage) > stored.nbytes:
        raise BadPickle(
            f"a tensor over a storage of {storage_nbytes(storage)} bytes, "
            f"of which the file holds {stored.nbytes}"
        )
    if storage.view is None:
        return stored
    begin, nbytes = (count * _item_bytes(storage) for count in storage.view)
    if stored.extent is not None:
        return Stored.at(Extent(stored.source, stored.extent.offset + begin, nbytes))
    return Stored(stored.source, nbytes, None, _part(stored.read, begin, begin + nbytes))


def _item_bytes(storage: StorageRef) -> int:
    return 1 if storage.element is None else _ITEM_BYTES[storage.element]


def lazy_tensor(ref: TensorRef, stored: Stored, origin: str) -> LazyTensor:
    """The tensor over its storage.

    Raises Unread for element types without a counterpart in safetensors, BadPickle when the tensor
    reaches outside the storage.
    """
    element = _ALIASES.get(ref.element, ref.element)
    item = _ITEM_BYTES.get(element)
    if item is None:
        raise BadPickle(f"a tensor of the unknown element type {element[:60]}")
    span = _span(ref)
    needed = (ref.offset + span) * item if span else 0
    if needed > stored.nbytes:
        raise BadPickle(f"a tensor that needs {needed} bytes of a storage of {stored.nbytes}")
    if ref.unread is not None:
        raise Unread(ref.unread)
    if element not in _LABELS:
        raise Unread(f"a tensor of {element}")
    dtype = BY_LABEL[_LABELS[element]]
    data = _bytes_of(ref, item, span, stored)
    return LazyTensor(dtype, ref.shape, data, origin, made_from=(stored.source,))


def array_tensor(array: Array, origin: str) -> LazyTensor:
    """A tensor kept inside the pickle as a numpy array. Raises Unread for other than plain ones."""
    label = _ARRAY_LABELS.get(array.type.code) if array.type else None
    if label is None or array.type is None or array.type.order == ">" or array.fortran:
        raise Unread("a numpy array that is not of plain numbers in C order")
    dtype, data = BY_LABEL[label], array.data or b""
    if len(data) != dtype.nbytes(math.prod(array.shape)):
        raise BadPickle("a numpy array whose bytes do not fill its shape")
    return LazyTensor(
        dtype, array.shape, (Extent(MemoryBytes(data, origin), 0, len(data)),), origin
    )


def _bytes_of(
    ref: TensorRef, item: int, span: int, stored: Stored
) -> tuple[Extent, ...] | Callable[[], Buffer]:
    numel = math.prod(ref.shape)
    if numel == 0:
        return ()
    begin, nbytes = ref.offset * item, numel * item
    if not _is_contiguous(ref):
        if nbytes > stored.nbytes + MAX_EXPANSION:
            raise BadPickle(f"a tensor of {nbytes} bytes over a storage of {stored.nbytes}")
        return _gathered(ref, item, begin, span * item, stored)
    if stored.extent is not None:
        return (Extent(stored.extent.source, stored.extent.offset + begin, nbytes),)
    return _part(stored.read, begin, begin + nbytes)


def _span(ref: TensorRef) -> int:
    """Elements from the first to the last one that the tensor touches."""
    if 0 in ref.shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(ref.shape, ref.stride, strict=True))


def _is_contiguous(ref: TensorRef) -> bool:
    expected = 1
    for size, step in zip(reversed(ref.shape), reversed(ref.stride), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True


def _part(read: Callable[[], Buffer], begin: int, end: int) -> Callable[[], Buffer]:
    return lambda: memoryview(read())[begin:end]


def _gathered(
    ref: TensorRef, item: int, begin: int, nbytes: int, stored: Stored
) -> Callable[[], Buffer]:
    def gather() -> Buffer:
        import numpy as np

        window = _window(stored, begin, nbytes)
        flat = np.frombuffer(window, dtype=np.dtype((np.void, item)))
        steps = tuple(step * item for step in ref.stride)
        view = np.lib.stride_tricks.as_strided(flat, ref.shape, steps, writeable=False)
        return view.tobytes()

    return gather


def _window(stored: Stored, begin: int, nbytes: int) -> Buffer:
    if stored.extent is None:
        return memoryview(stored.read())[begin : begin + nbytes]
    return stored.extent.source.pread(stored.extent.offset + begin, nbytes)
