"""A file's tensors and their digests in few bytes, to compare files that are not there.

One byte of version (1), the number of tensors and the length of what follows as four bytes each,
little endian; then zlib of JSON `[names, kinds, kind]`: the names in their order, the distinct
`[label of the type, shape]`, and for each name the place of its kind in that list; then the first
16 bytes of each tensor's digest, which do not compress. Shortened so, two of a billion tensors are
taken for each other with a chance of 10⁻²¹.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from typing import NoReturn

from converters.digest import TensorDigest
from converters.errors import CorruptFile

VERSION = 1
DIGEST_BYTES = 16
MAX_TEXT = 256 << 20
"""Bytes of names that are unpacked; a safetensors header may have 100 MB."""

_HEAD = struct.Struct("<BII")


def pack(tensors: Mapping[str, TensorDigest]) -> bytes:
    """The table of these tensors, by name; digests are shortened."""
    names = sorted(tensors)
    kinds: dict[tuple[str, tuple[int, ...]], int] = {}
    places = [kinds.setdefault(tensors[name][:2], len(kinds)) for name in names]
    text = json.dumps([names, list(kinds), places], separators=(",", ":"))
    packed = zlib.compress(text.encode("ascii"))
    digests = b"".join(tensors[name].digest[:DIGEST_BYTES] for name in names)
    return _HEAD.pack(VERSION, len(names), len(packed)) + packed + digests


def unpack(table: bytes) -> dict[str, TensorDigest]:
    """The tensors of a table, by name, with the first 16 bytes of their digests.

    Raises CorruptFile for anything else than `pack` makes.
    """
    if len(table) < _HEAD.size:
        _refuse("ends within its head")
    version, count, length = _HEAD.unpack_from(table)
    if version != VERSION:
        _refuse(f"is of version {version}")
    end = _HEAD.size + length
    if len(table) != end + count * DIGEST_BYTES:
        _refuse(f"has {len(table)} bytes, of {end + count * DIGEST_BYTES}")
    names, kinds, places = _columns(table[_HEAD.size : end])
    if not len(names) == len(places) == count:
        _refuse(f"names {len(names)} tensors of {count}")
    digests = (table[at : at + DIGEST_BYTES] for at in range(end, len(table), DIGEST_BYTES))
    return {
        name: TensorDigest(*kinds[place], digest)
        for name, place, digest in zip(names, places, digests, strict=True)
    }


def _columns(packed: bytes) -> tuple[list[str], list[tuple[str, tuple[int, ...]]], list[int]]:
    try:
        stream = zlib.decompressobj()
        text = stream.decompress(packed, MAX_TEXT)
        if not stream.eof:
            _refuse("breaks off, or unpacks to too much")
        names, kinds, places = json.loads(text)
        if not all(isinstance(name, str) for name in names):
            _refuse("has a name that is no text")
        return names, [_kind(*each) for each in kinds], [_place(each, kinds) for each in places]
    except (zlib.error, ValueError, TypeError, RecursionError) as error:
        raise CorruptFile(f"the table of tensor digests cannot be read: {error}") from error


def _kind(label: object, shape: object) -> tuple[str, tuple[int, ...]]:
    if not isinstance(label, str) or not isinstance(shape, list):
        raise TypeError("a kind is no type with a shape")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise TypeError("a shape is no list of sizes")
    return label, tuple(shape)


def _place(place: object, kinds: list[object]) -> int:
    if type(place) is not int or not 0 <= place < len(kinds):
        raise TypeError("a tensor is of no kind that is listed")
    return place


def _refuse(cause: str) -> NoReturn:
    raise CorruptFile(f"the table of tensor digests {cause}")
