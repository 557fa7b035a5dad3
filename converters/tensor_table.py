"""A file's tensors and their digests in few bytes, to compare files that are not there.

One byte of version, the number of tensors and the length of what follows as four bytes each,
little endian; then zlib of JSON `[names, kinds, kind]`: the names in their order, the distinct
`[label of the type, shape]`, and for each name the place of its kind in that list; then the first
16 bytes of each tensor's digest (version 1), or its checksum (version 2), which do not compress.
Behind those come, in versions 3 and 4, the checksums of the tensors that have one by any rule, or
the digests of those that have one (`Listing.checked`, `Listing.digested`).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from converters.errors import CorruptFile
from converters.weights import (
    CHECKSUM_BYTES,
    DIGEST_BYTES,
    Joined,
    Listing,
    TensorDigests,
    Weights,
    others_of,
)

WIDTHS = {
    1: (DIGEST_BYTES, 0),
    2: (CHECKSUM_BYTES, 0),
    3: (DIGEST_BYTES, CHECKSUM_BYTES),
    4: (CHECKSUM_BYTES, DIGEST_BYTES),
}
"""Version -> bytes of what each tensor has, and of what some have besides."""
MAX_TEXT = 256 << 20
"""Bytes of names that are unpacked; a safetensors header may have 100 MB."""

LISTINGS = 32
"""Whose packed names are kept for the next tables, as many as `containers` keeps structures."""

_HEAD = struct.Struct("<BII")


def pack(tensors: TensorDigests) -> bytes:
    """The table of these tensors; digests are shortened."""
    digests, others = tensors.digests, tensors.others
    if not isinstance(digests, Joined):
        digests = Joined(b"".join([digest[:DIGEST_BYTES] for digest in digests]), DIGEST_BYTES)
    widths = (digests.width, 0 if others is None else others.width)
    version = next(version for version, known in WIDTHS.items() if known == widths)
    packed = _packed(tensors.listing)
    head = _HEAD.pack(version, len(tensors), len(packed))
    return b"".join([head, packed, digests.data, b"" if others is None else others.data])


@lru_cache(maxsize=LISTINGS)
def _packed(listing: Listing) -> bytes:
    kinds: dict[tuple[str, tuple[int, ...]], int] = {}
    places = [kinds.setdefault(kind, len(kinds)) for kind in listing.kinds]
    text = json.dumps([listing.names, list(kinds), places], separators=(",", ":"))
    return zlib.compress(text.encode("ascii"))


@dataclass(frozen=True, slots=True)
class PackedWeights:
    """The digests of a file's tensors as they are kept: those of tensors in packed tables."""

    whole: str
    components: Mapping[str, str]
    tensors: bytes
    parts: Mapping[str, bytes]

    @classmethod
    def of(cls, weights: Weights) -> PackedWeights:
        """The same digests."""
        parts = {name: pack(part) for name, part in weights.parts.items()}
        return cls(weights.whole, weights.components, pack(weights.tensors), parts)


def unpack(table: bytes) -> TensorDigests:
    """The tensors of a table, with the first 16 bytes of their digests, or their checksums.

    Raises CorruptFile for anything else than `pack` makes.
    """
    if len(table) < _HEAD.size:
        _refuse("ends within its head")
    version, count, length = _HEAD.unpack_from(table)
    if version not in WIDTHS:
        _refuse(f"is of version {version}")
    end = _HEAD.size + length
    width, more = WIDTHS[version]
    last = end + count * width
    if len(table) < last or (not more and len(table) > last):
        _refuse(f"has {len(table)} bytes, of {last}")
    names, kinds, places = _columns(table[_HEAD.size : end])
    listing = Listing({name: kinds[place] for name, place in zip(names, places, strict=False)})
    if not len(names) == len(places) == count or list(listing.names) != names:
        _refuse(f"names {len(names)} tensors of {count}, or not in their order")
    digests = Joined(table[end:last], width)
    if not more:
        return TensorDigests(listing, digests)
    if len(table) != last + more * len(others_of(listing, digests)):
        _refuse(f"has {len(table) - last} bytes behind its digests")
    return TensorDigests(listing, digests, Joined(table[last:], more))


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
