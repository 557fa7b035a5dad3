"""The pickle of a torch file, written without torch: plain values, and tensors over storages.

Protocol 2, which every reader knows. Sources: CPython `pickletools` (opcodes), pytorch
`torch/serialization.py` (_save), `torch/_utils.py` (_rebuild_tensor_v2).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.statedict import LazyTensor, Plain

Tree = LazyTensor | Plain | Mapping[Any, "Tree"] | Sequence["Tree"]
"""What can be pickled: tensors and plain values, in lists, tuples and dicts by word or number."""

_STORAGES = {
    DType.F64: "DoubleStorage",
    DType.F32: "FloatStorage",
    DType.F16: "HalfStorage",
    DType.BF16: "BFloat16Storage",
    DType.I64: "LongStorage",
    DType.I32: "IntStorage",
    DType.I16: "ShortStorage",
    DType.I8: "CharStorage",
    DType.U8: "ByteStorage",
    DType.BOOL: "BoolStorage",
}
_MARK, _REDUCE = b"(", b"R"
_PUT, _GET = 0x71, 0x68
_LONG_INT = 1 << 31


def tensors_in(tree: Tree) -> Iterator[LazyTensor]:
    """All tensors, in the order of their storages' numbers."""
    if isinstance(tree, LazyTensor):
        yield tree
    elif isinstance(tree, Mapping):
        for member in tree.values():
            yield from tensors_in(member)
    elif isinstance(tree, list | tuple):
        for member in tree:
            yield from tensors_in(member)


def torch_pickle(tree: Tree) -> bytes:
    """The bytes of `data.pkl`. Raises UnsupportedFile for an element type without a storage."""
    return b"\x80\x02" + b"".join(_Pickler().parts(tree)) + b"."


class _Pickler:
    """Numbers the storages, and writes only once what every tensor names again."""

    def __init__(self) -> None:
        self._storages = 0
        self._places: dict[bytes, int] = {}

    def parts(self, tree: Tree) -> Iterator[bytes]:
        if isinstance(tree, LazyTensor):
            yield self._tensor(tree)
        elif isinstance(tree, Mapping):
            yield b"}" + _MARK
            for key, member in tree.items():
                yield _plain(key)
                yield from self.parts(member)
            yield b"u"
        elif isinstance(tree, list | tuple):
            is_list = isinstance(tree, list)
            yield b"]" + _MARK if is_list else _MARK
            for member in tree:
                yield from self.parts(member)
            yield b"e" if is_list else b"t"
        else:
            yield _plain(tree)

    def _tensor(self, tensor: LazyTensor) -> bytes:
        if tensor.dtype not in _STORAGES:
            raise UnsupportedFile(
                f"{tensor.origin}: {tensor.dtype.label} cannot be stored in this format"
            )
        rebuild = self._once(_global("torch._utils", "_rebuild_tensor_v2"))
        storage = b"".join(
            [
                _MARK,
                self._once(_text("storage")),
                self._once(_global("torch", _STORAGES[tensor.dtype])),
                _text(str(self._storages)),
                self._once(_text("cpu")),
                _integer(tensor.numel),
                b"tQ",
            ]
        )
        self._storages += 1
        strides = [math.prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
        hooks = self._once(_global("collections", "OrderedDict")) + b")" + _REDUCE
        arguments = [storage, _integer(0), _tuple(tensor.shape), _tuple(strides), b"\x89", hooks]
        return rebuild + _MARK + b"".join(arguments) + b"t" + _REDUCE

    def _once(self, pushed: bytes) -> bytes:
        """The opcodes that push a constant: itself and BINPUT, later only BINGET."""
        known = len(self._places)
        place = self._places.setdefault(pushed, known)
        return pushed + bytes([_PUT, place]) if place == known else bytes([_GET, place])


def _plain(value: object) -> bytes:
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return _text(value)
    raise TypeError(f"{type(value).__name__} is no plain value")


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _integer(number: int) -> bytes:
    if -_LONG_INT <= number < _LONG_INT:
        return b"J" + struct.pack("<i", number)
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _tuple(numbers: Sequence[int]) -> bytes:
    return _MARK + b"".join(map(_integer, numbers)) + b"t"
