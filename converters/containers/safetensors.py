"""The safetensors container: a JSON header with names, types and ranges, then the bytes.

Source: huggingface/safetensors, README ("Format") and `safetensors/src/tensor.rs` (limits and
order of checks). Stricter than the library in one point that its README forbids too: a key given
twice. The first rule that a file breaks is named in the error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from converters.bytesource import ByteSource
from converters.containers.model import Container, Model
from converters.containers.shared_headers import SharedHeaders
from converters.containers.strict_json import BadJson, parse_object, short
from converters.dtypes import BY_LABEL, DType
from converters.errors import CorruptFile, TruncatedFile
from converters.pickles.verdict import SAFE_NO_CODE
from converters.statedict import StateDict
from converters.stored import Entry, StoredTensors, Structure

LENGTH_BYTES = 8
MAX_HEADER = 100_000_000
SHARED_HEADER = 1_000_000
SHARED_STRUCTURES = 32
"""Structures of headers up to so many bytes are kept for the next files, so many of them."""

_METADATA = "__metadata__"


def read_safetensors(source: ByteSource) -> Model:
    """Open a safetensors file from its header alone.

    Raises TruncatedFile when the file ends before what its header announces, CorruptFile when it
    breaks another rule of the format.
    """
    data_start = _data_start(source)
    try:
        header = source.pread(LENGTH_BYTES, data_start - LENGTH_BYTES)
        structure, metadata = _parse(header)
    except BadJson as error:
        raise CorruptFile(f"its header {error}", path=source.name) from None
    except _Broken as error:
        raise CorruptFile(str(error), path=source.name) from None
    _require_size(source, data_start + structure.nbytes)
    return Model(
        path=source.name,
        nbytes=source.size,
        container=Container.SAFETENSORS,
        state_dict=StateDict(StoredTensors(structure, source, data_start), metadata),
        safety=SAFE_NO_CODE,
        problems=() if header.startswith(b"{") else ("the header begins with blanks, not with {",),
        header_bytes=data_start,
    )


def _parse(header: bytes) -> tuple[Structure, dict[str, str]]:
    """The structure and the metadata; structures of headers that differ in metadata are shared."""
    if len(header) <= SHARED_HEADER:
        try:
            if (parts := _SHARED.split(header)) is not None:
                metadata, structure = parts
                return structure, _texts(metadata)
        except (BadJson, _Broken):
            pass  # the same again as a whole, whose error tells the right place
    pairs = parse_object(header)
    return _structure(pairs), _texts(pairs.get(_METADATA))


def _without_metadata(members: bytes) -> Structure:
    """Of what follows the metadata in a header."""
    pairs = parse_object(b"{" + members)
    if _METADATA in pairs:
        raise _Broken("its __metadata__ is given twice")
    return _structure(pairs)


_SHARED = SharedHeaders(_METADATA, _without_metadata, SHARED_STRUCTURES)


def _structure(pairs: Mapping[str, object]) -> Structure:
    entries = {name: _entry(name, value) for name, value in pairs.items() if name != _METADATA}
    _require_contiguous(entries)
    return Structure(entries)


class _Broken(Exception):
    """A rule of the format that the header breaks, in words."""


def _data_start(source: ByteSource) -> int:
    if source.size < LENGTH_BYTES:
        raise TruncatedFile(
            f"ends at byte {source.size}, before the {LENGTH_BYTES} bytes of its header length",
            path=source.name,
        )
    length = int.from_bytes(source.pread(0, LENGTH_BYTES), "little")
    if length > MAX_HEADER:
        raise CorruptFile(
            f"its header length is {length}, more than the format's {MAX_HEADER}", path=source.name
        )
    if LENGTH_BYTES + length > source.size:
        raise TruncatedFile(
            f"ends at byte {source.size}, its header alone needs {LENGTH_BYTES + length}",
            path=source.name,
        )
    return LENGTH_BYTES + length


def _texts(metadata: object) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise _Broken("its __metadata__ is not an object")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise _Broken(f"its __metadata__ value {short(name)} is not a text")
    return metadata


def _entry(name: str, value: object) -> Entry:
    """The entry, believed at once when it is as writers make them, else checked rule by rule."""
    try:
        dtype = BY_LABEL[value["dtype"]]  # type: ignore[index]  # what is no object is caught
        shape = value["shape"]  # type: ignore[index]
        begin, end = value["data_offsets"]  # type: ignore[index]
        if (
            {int}.issuperset(map(type, (begin, end, *shape)))
            and min(begin, *shape, 0) >= 0
            and dtype.nbytes(math.prod(shape)) == end - begin
        ):
            return Entry(dtype, tuple(shape), begin, end)
    except (KeyError, TypeError, ValueError):
        pass
    return _checked_entry(name, value)


def _checked_entry(name: str, value: object) -> Entry:
    if not isinstance(value, dict):
        raise _Broken(f"tensor {short(name)} is not described by an object")
    label = value.get("dtype")
    dtype = BY_LABEL.get(label) if isinstance(label, str) else None
    if dtype is None:
        raise _Broken(f"tensor {short(name)} has the unknown dtype {short(label)}")
    shape = _counts(name, "shape", value.get("shape"))
    offsets = _counts(name, "data_offsets", value.get("data_offsets"))
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _Broken(f"tensor {short(name)} has data_offsets that are not a range")
    _require_fit(name, dtype, shape, offsets[1] - offsets[0])
    return Entry(dtype, shape, *offsets)


def _counts(name: str, what: str, values: object) -> tuple[int, ...]:
    if not isinstance(values, list) or any(type(v) is not int or v < 0 for v in values):
        raise _Broken(f"tensor {short(name)} has a {what} that is not a list of numbers from 0 on")
    return tuple(values)


def _require_fit(name: str, dtype: DType, shape: tuple[int, ...], length: int) -> None:
    try:
        needed = dtype.nbytes(math.prod(shape))
    except ValueError as error:
        raise _Broken(f"tensor {short(name)}: {error}") from None
    if needed != length:
        raise _Broken(
            f"tensor {short(name)}: {dtype.label} {list(shape)} needs {needed} bytes, "
            f"its range has {length}"
        )


def _require_contiguous(entries: Mapping[str, Entry]) -> None:
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1][2:]):
        if entry.begin != position:
            what = "leaves a hole after" if entry.begin > position else "overlaps"
            raise _Broken(
                f"tensor {short(name)} begins at {entry.begin} and {what} "
                f"the tensor that ends at {position}"
            )
        position = entry.end


def _require_size(source: ByteSource, announced: int) -> None:
    if source.size < announced:
        raise TruncatedFile(
            f"ends at byte {source.size}, its header announces {announced}",
            path=source.name,
            hint="the download or copy is incomplete: fetch the file again",
        )
    if source.size > announced:
        raise CorruptFile(
            f"{source.size - announced} bytes follow the last tensor, which ends at {announced}",
            path=source.name,
        )
