"""The header of a GGUF file: counts, metadata and descriptions of tensors, read with bounds.

Nothing is believed before it is compared with what the file has left, so that a lying count costs
no more than the file's own bytes. Source: ggml-org/ggml `docs/gguf.md` (versions 2 and 3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from converters.bytesource import ByteSource
from converters.errors import CorruptFile, FileProblem, TruncatedFile, UnsupportedFile

MAGIC = b"GGUF"
MAX_HEADER = 64 << 20
"""Bytes of header; the vocabularies of language models make a few megabytes."""
MAX_ENTRIES = 1 << 16
"""Tensors, or metadata entries."""
MAX_DIMENSIONS = 8
MAX_NAME = 1024
MAX_LISTED = 16
"""Elements of an array that are kept; longer ones are vocabularies, of which the length is kept."""

_FIRST_LOOK = 1 << 16
_ARRAY, _STRING, _BOOL = 9, 8, 7
_NUMBERS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", _BOOL: "<?", 10: "<Q",
    11: "<q", 12: "<d",
}  # fmt: skip
_SMALLEST_ENTRY, _SMALLEST_TENSOR = 8 + 4 + 1, 8 + 4 + 4 + 8

Scalar = bool | int | float | str
Value = Scalar | list[Scalar]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor as described: `dimensions` with the fastest first, `offset` from the data start."""

    name: str
    dimensions: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """Metadata by key, the tensors in the order of the file, and the offset after the header.

    Arrays of more than MAX_LISTED elements are given as a text that says how long they are.
    """

    values: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    end: int


def read_header(source: ByteSource) -> GgufHeader:
    """Read the header, and of the file not much more than that.

    Raises TruncatedFile, CorruptFile, UnsupportedFile (version 1, big endian, nested arrays).
    """
    look = _FIRST_LOOK
    limit = min(source.size, MAX_HEADER)
    while True:
        data = source.pread(0, min(look, limit))
        try:
            return _Reader(data, source).header()
        except _Short as short:
            if len(data) == limit:
                raise short.problem(source) from None
        look *= 8


class _Short(Exception):
    """The header needs the bytes up to `needed`."""

    def __init__(self, needed: int) -> None:
        super().__init__(needed)
        self.needed = needed

    def problem(self, source: ByteSource) -> FileProblem:
        if source.size < self.needed:
            return TruncatedFile(
                f"ends at byte {source.size}, its header needs {self.needed}", path=source.name
            )
        return CorruptFile(f"its header is longer than {MAX_HEADER >> 20} MB", path=source.name)


class _Reader:
    """Reads from the beginning of the file as far as it is in memory; see `read_header`."""

    def __init__(self, data: bytes, source: ByteSource) -> None:
        self._data = data
        self._path = source.name
        self._size = source.size
        self._at = len(MAGIC)

    def header(self) -> GgufHeader:
        self._require_version()
        tensors, entries = self._count("<Q"), self._count("<Q")
        self._require_few(tensors, _SMALLEST_TENSOR, "tensors")
        self._require_few(entries, _SMALLEST_ENTRY, "metadata entries")
        values: dict[str, Value] = {}
        for _ in range(entries):
            key = self._name("metadata key", values)
            values[key] = self._value(key)
        infos: dict[str, TensorInfo] = {}
        for _ in range(tensors):
            name = self._name("tensor", infos)
            infos[name] = self._tensor(name)
        return GgufHeader(values, tuple(infos.values()), self._at)

    def _require_version(self) -> None:
        version = self._count("<I")
        if version in {2, 3}:
            return
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = f"is a big-endian GGUF file of version {swapped}" if swapped in {2, 3} else None
        what = what or f"is a GGUF file of version {version}"
        raise UnsupportedFile(f"{what}, which is not read", path=self._path)

    def _require_few(self, count: int, each: int, what: str) -> None:
        self._require_room(count, each, what)
        if count > MAX_ENTRIES:
            raise self._corrupt(f"more than {MAX_ENTRIES} {what}")

    def _require_room(self, count: int, each: int, what: str) -> None:
        """Raises TruncatedFile when that many cannot follow."""
        needed = self._at + count * each
        if needed > self._size:
            raise TruncatedFile(
                f"ends at byte {self._size}, its {count} {what} need at least {needed}",
                path=self._path,
            )

    def _take(self, count: int) -> bytes:
        begin = self._at
        self._at += count
        if self._at > len(self._data):
            raise _Short(self._at)
        return self._data[begin : self._at]

    def _number(self, form: str) -> Scalar:
        number: Scalar = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return number

    def _count(self, form: str) -> int:
        return int(self._number(form))

    def _text(self) -> bytes:
        length = self._count("<Q")
        self._require_room(length, 1, "bytes of a text")
        return self._take(length)

    def _name(self, what: str, known: dict[str, Value] | dict[str, TensorInfo]) -> str:
        begin = self._at
        raw = self._text()
        try:
            name = str(raw, "utf-8")
        except UnicodeDecodeError:
            raise self._corrupt(f"a {what} at byte {begin} that is not UTF-8") from None
        if len(name) > MAX_NAME:
            raise self._corrupt(f"a {what} of more than {MAX_NAME} characters at byte {begin}")
        if name in known:
            raise self._corrupt(f"the {what} {name[:80]!r} twice")
        return name

    def _corrupt(self, what: str) -> CorruptFile:
        return CorruptFile(f"its header has {what}", path=self._path)

    # -- metadata ------------------------------------------------------------------------------

    def _value(self, key: str) -> Value:
        kind = self._count("<I")
        return self._array(key) if kind == _ARRAY else self._scalar(key, kind)()

    def _scalar(self, key: str, kind: int) -> Callable[[], Scalar]:
        """The reader of one value of that kind."""
        if kind == _STRING:
            return lambda: str(self._text(), "utf-8", "replace")
        form = _NUMBERS.get(kind)
        if form is None:
            raise self._corrupt(f"a value of the unknown type {kind} under {key[:80]!r}")
        return lambda: self._number(form)

    def _array(self, key: str) -> Value:
        kind, count = self._count("<I"), self._count("<Q")
        if kind == _ARRAY:
            raise UnsupportedFile(
                f"is a GGUF file with arrays in arrays, under {key[:80]!r}", path=self._path
            )
        read = self._scalar(key, kind)
        width = 8 if kind == _STRING else struct.calcsize(_NUMBERS[kind])
        self._require_room(count, width, f"values under {key[:80]!r}")
        if count <= MAX_LISTED:
            return [read() for _ in range(count)]
        if kind == _STRING:
            for _ in range(count):
                self._text()
        else:
            self._take(count * width)
        return f"({count} values)"

    # -- tensors -------------------------------------------------------------------------------

    def _tensor(self, name: str) -> TensorInfo:
        count = self._count("<I")
        if count > MAX_DIMENSIONS:
            raise self._corrupt(f"the tensor {name[:80]!r} with {count} dimensions")
        dimensions = struct.unpack(f"<{count}Q", self._take(8 * count))
        kind, offset = self._count("<I"), self._count("<Q")
        return TensorInfo(name, dimensions, kind, offset)
