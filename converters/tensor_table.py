"""A file's tensors and their digests in few bytes, to compare files that are not there.

One byte of version, the number of tensors and the length of what follows as four bytes each,
little endian; then zlib of JSON `[names, kinds, kind]`: the names in their order, the distinct
`[label of the type, shape, bytes of a digest]`, and for each name the place of its kind in that
list; then the first 16 bytes of each tensor's digest, or the 8 of its checksum, which do not
compress. Version 1, of models without checksums, does not say how long digests are: all have 16
bytes.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple, NoReturn

from converters.errors import CorruptFile
from converters.weights import DIGEST_BYTES, Listing, TensorDigests

PLAIN, MIXED = 1, 2
"""Versions: with digests alone, and with checksums among them."""
MAX_TEXT = 256 << 20
"""Bytes of names that are unpacked; a safetensors header may have 100 MB."""

LISTINGS = 32
"""Whose packed names are kept for the next tables, as many as `containers` keeps structures."""

_HEAD = struct.Struct("<BII")


def pack(tensors: TensorDigests) -> bytes:
    """The table of these tensors; digests are shortened."""
    lengths = tuple(map(len, tensors.digests))
    is_mixed = min(lengths, default=DIGEST_BYTES) < DIGEST_BYTES
    packed = _packed(tensors.listing, lengths if is_mixed else None)
    digests = tensors.digests
    if max(lengths, default=0) > DIGEST_BYTES:
        digests = [digest[:DIGEST_BYTES] for digest in digests]
    return (
        _HEAD.pack(MIXED if is_mixed else PLAIN, len(tensors), len(packed))
        + packed
        + b"".join(digests)
    )


@lru_cache(maxsize=LISTINGS)
def _packed(listing: Listing, lengths: tuple[int, ...] | None) -> bytes:
    kinds: dict[tuple[object, ...], int] = {}
    described: Iterable[tuple[object, ...]] = listing.kinds
    if lengths is not None:
        pairs = zip(listing.kinds, lengths, strict=True)
        described = [(*kind, min(length, DIGEST_BYTES)) for kind, length in pairs]
    places = [kinds.setdefault(kind, len(kinds)) for kind in described]
    text = json.dumps([listing.names, list(kinds), places], separators=(",", ":"))
    return zlib.compress(text.encode("ascii"))


def unpack(table: bytes) -> TensorDigests:
    """The tensors of a table, with the first 16 bytes of their digests.

    Raises CorruptFile for anything else than `pack` makes.
    """
    if len(table) < _HEAD.size:
        _refuse("ends within its head")
    version, count, length = _HEAD.unpack_from(table)
    if version not in {PLAIN, MIXED}:
        _refuse(f"is of version {version}")
    end = _HEAD.size + length
    names, kinds, places = _columns(table[_HEAD.size : end], _KINDS[version])
    if not len(names) == len(places) == count:
        _refuse(f"names {len(names)} tensors of {count}")
    ends = list(accumulate((kinds[place].width for place in places), initial=end))
    if len(table) != ends[-1]:
        _refuse(f"has {len(table)} bytes, of {ends[-1]}")
    listing = Listing({n: kinds[place][:2] for n, place in zip(names, places, strict=True)})
    if list(listing.names) != names:
        _refuse("names tensors twice, or not in their order")
    return TensorDigests(listing, [table[start:stop] for start, stop in pairwise(ends)])


class _Kind(NamedTuple):
    label: str
    shape: tuple[int, ...]
    width: int


def _columns(
    packed: bytes, kind_of: Callable[..., _Kind]
) -> tuple[list[str], list[_Kind], list[int]]:
    try:
        stream = zlib.decompressobj()
        text = stream.decompress(packed, MAX_TEXT)
        if not stream.eof:
            _refuse("breaks off, or unpacks to too much")
        names, kinds, places = json.loads(text)
        if not all(isinstance(name, str) for name in names):
            _refuse("has a name that is no text")
        return names, [kind_of(*each) for each in kinds], [_place(each, kinds) for each in places]
    except (zlib.error, ValueError, TypeError, RecursionError) as error:
        raise CorruptFile(f"the table of tensor digests cannot be read: {error}") from error


def _plain(label: object, shape: object) -> _Kind:
    return _mixed(label, shape, DIGEST_BYTES)


def _mixed(label: object, shape: object, width: object) -> _Kind:
    if not isinstance(label, str) or not isinstance(shape, list):
        raise TypeError("a kind is no type with a shape")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise TypeError("a shape is no list of sizes")
    if type(width) is not int or not 0 < width <= DIGEST_BYTES:
        raise TypeError("a digest has no length")
    return _Kind(label, tuple(shape), width)


_KINDS: Mapping[int, Callable[..., _Kind]] = {PLAIN: _plain, MIXED: _mixed}


def _place(place: object, kinds: list[object]) -> int:
    if type(place) is not int or not 0 <= place < len(kinds):
        raise TypeError("a tensor is of no kind that is listed")
    return place


def _refuse(cause: str) -> NoReturn:
    raise CorruptFile(f"the table of tensor digests {cause}")
