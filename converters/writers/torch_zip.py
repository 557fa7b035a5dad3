"""Writer of torch's zip format without torch: a plain dict of tensors, for programs that want it.

Only the records that A1111's loader lets pass are written (`data.pkl`, `data/N`, `version`,
`byteorder`), stored and aligned to 64 bytes. Sources: pytorch `torch/serialization.py` (_save),
`torch/_utils.py` (_rebuild_tensor_v2), forge `modules/safe.py`; opcodes: CPython `pickletools`.
"""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from converters.dtypes import DType
from converters.errors import UnsupportedFile
from converters.progress import SILENT, Progress
from converters.statedict import LazyTensor, StateDict
from converters.writers.atomic import AtomicTarget, naming, refuse_full

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
_ROOT = "archive"
_ALIGNMENT = 64
_LOCAL_HEADER = 30
_ZIP64_EXTRA = 20
_PADDING_ID = b"FB"
"""The id of the extra field that torch pads with."""
_CHUNK = 1 << 20
_LONG_INT = 1 << 31


def write_torch_zip(
    state: StateDict, target: Path, *, overwrite: bool = False, progress: Progress = SILENT
) -> int:
    """Write `{"state_dict": {name: tensor}}` and give the file's size in bytes.

    Metadata has no place in this format. Raises UnsupportedFile for element types that torch's
    storages do not have (8-bit floats), WriteProblem for the target, FileProblem for a source.
    """
    for name, tensor in state.items():
        if tensor.dtype not in _STORAGES:
            raise UnsupportedFile(f"{name}: {tensor.dtype.label} cannot be stored in this format")
    refuse_full(target, state.nbytes)
    progress.stage(f"writing {target.name}", state.nbytes)
    with AtomicTarget(target, overwrite=overwrite) as file:
        with (
            naming(target),
            os.fdopen(os.dup(file.descriptor), "wb") as stream,
            zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive,
        ):
            _put(archive, "data.pkl", [_pickled(state)])
            _put(archive, "byteorder", [b"little"])
            for number, tensor in enumerate(state.values()):
                _put(archive, f"data/{number}", _chunks(tensor, progress))
            _put(archive, "version", [b"3\n"])
        for tensor in state.values():
            for source in tensor.sources:
                source.check_unchanged()
        file.commit()
    return target.stat().st_size


def _put(archive: zipfile.ZipFile, name: str, chunks: Iterator[bytes] | list[bytes]) -> None:
    info = zipfile.ZipInfo(f"{_ROOT}/{name}")
    assert archive.fp is not None
    # zipfile adds its own field for sizes beyond 4 GB, which is always asked for.
    before = archive.fp.tell() + _LOCAL_HEADER + len(info.filename) + _ZIP64_EXTRA
    padding = -(before + 4) % _ALIGNMENT
    info.extra = _PADDING_ID + struct.pack("<H", padding) + b"\0" * padding
    with archive.open(info, "w", force_zip64=True) as entry:
        for chunk in chunks:
            entry.write(chunk)


def _chunks(tensor: LazyTensor, progress: Progress) -> Iterator[bytes]:
    if tensor.extents is None:
        data = memoryview(tensor.read()).cast("B")
        yield bytes(data)
        progress.advance(len(data))
        return
    for extent in tensor.extents:
        for start in range(0, extent.nbytes, _CHUNK):
            count = min(_CHUNK, extent.nbytes - start)
            yield extent.source.pread(extent.offset + start, count)
            progress.advance(count)


def _pickled(state: StateDict) -> bytes:
    """The pickle, protocol 2: nothing but dicts, texts, numbers and calls of the rebuild."""
    memo = _Memo()
    parts = [b"\x80\x02}", _text("state_dict"), b"}("]
    for number, (name, tensor) in enumerate(state.items()):
        parts += [_text(name), _tensor(memo, number, tensor)]
    parts += [b"us."]
    return b"".join(parts)


class _Memo:
    """What every tensor names again is written once, and referred to afterwards."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}

    def once(self, pushed: bytes) -> bytes:
        """The opcodes that push a constant: itself and BINPUT, later only BINGET."""
        known = len(self._places)
        place = self._places.setdefault(pushed, known)
        return pushed + bytes([0x71, place]) if place == known else bytes([0x68, place])


def _tensor(memo: _Memo, number: int, tensor: LazyTensor) -> bytes:
    storage = b"".join(
        [
            b"(",
            memo.once(_text("storage")),
            memo.once(_global("torch", _STORAGES[tensor.dtype])),
            _text(str(number)),
            memo.once(_text("cpu")),
            _integer(tensor.numel),
            b"tQ",
        ]
    )
    strides = [math.prod(tensor.shape[axis + 1 :]) for axis in range(len(tensor.shape))]
    hooks = memo.once(_global("collections", "OrderedDict")) + b")R"
    arguments = [storage, _integer(0), _tuple(tensor.shape), _tuple(strides), b"\x89", hooks]
    rebuild = memo.once(_global("torch._utils", "_rebuild_tensor_v2"))
    return rebuild + b"(" + b"".join(arguments) + b"tR"


def _text(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _integer(number: int) -> bytes:
    if number < _LONG_INT:
        return b"J" + struct.pack("<i", number)
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def _tuple(numbers: tuple[int, ...] | list[int]) -> bytes:
    return b"(" + b"".join(map(_integer, numbers)) + b"t"
