"""Digests of models whose tensors are small and many: adapters of low rank, embeddings.

To begin and to end BLAKE3 for each of them takes longer than all other hashes of the file together.
So, where tensors have less than `SMALL_BYTES` on average, the digest of the whole is BLAKE3 over
`TOGETHER`, the BLAKE3 of the listing (for each tensor, in the order of names, its name as in
`converters.digest`, and its head), and the bytes of all tensors in that order: what separates them
is in the listing. Names, types and shapes alone decide about it, so that it is the same rule for
every container.

A tensor of more than `TINY_BYTES` and less than `SMALL_BYTES` of such a model has a checksum for a
digest: CRC-32 and Adler-32, four bytes each, little endian. These tell *which* tensors differ, of
models of which the digests of the whole tell *that* they do; somebody who is after two tensors with
one checksum will find them, and only that one of the whole withstands it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from blake3 import blake3

from converters.statedict import StateDict
from converters.stored import StoredTensors
from converters.weights import DIGEST_BYTES, Listing

SMALL_BYTES = 16 << 10
TINY_BYTES = 16
"""Adapters have a scale of a few bytes in each module, nearly always of the same few values."""
MOST_BYTES = 64 << 20
"""What such a model has at most: it is in memory as a whole."""
TOGETHER = b"assetmgr small tensors 1\n"

_CHECKSUM = struct.Struct("<II")


def are_small(state: StateDict) -> bool:
    """Whether the tensors are digested together."""
    stored = state.tensors
    nbytes = stored.structure.nbytes if isinstance(stored, StoredTensors) else state.nbytes
    return 0 < nbytes < SMALL_BYTES * len(state) and nbytes <= MOST_BYTES


def whole_together(listing: Listing, pieces: Sequence[memoryview]) -> str:
    """The digest of a model by the bytes of its tensors, in the order of the listing."""
    hasher = blake3(TOGETHER + _digest_of(listing))
    hasher.update(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    whole: str = hasher.hexdigest()
    return whole


def digests_of(listing: Listing, pieces: Sequence[memoryview]) -> list[bytes]:
    """What stands for each tensor of such a model, in the order of the listing."""
    from zlib_ng.zlib_ng import adler32, crc32  # brings gzip with it: only for those who hash

    order = _order_of(listing, tuple(map(len, pieces)))
    summed = list(map(pieces.__getitem__, order.summed))
    digested = map(pieces.__getitem__, order.digested)
    found = [
        *map(_CHECKSUM.pack, map(crc32, summed), map(adler32, summed)),
        *map(short_digest_of, order.heads, digested),
    ]
    return list(map(found.__getitem__, order.back))


def short_digest_of(head: bytes, piece: memoryview) -> bytes:
    """The first `DIGEST_BYTES` of the digest of a tensor whose bytes are at hand."""
    if len(piece) <= TINY_BYTES:
        return _short_digest(head + piece)
    found: bytes = blake3(head + piece).digest(DIGEST_BYTES)
    return found


@lru_cache(maxsize=1024)
def _short_digest(data: bytes) -> bytes:
    found: bytes = blake3(data).digest(DIGEST_BYTES)
    return found


class _Order(NamedTuple):
    """Of which tensors there are checksums, and of which digests; `back` to the listing's order."""

    summed: tuple[int, ...]
    digested: tuple[int, ...]
    heads: tuple[bytes, ...]
    back: tuple[int, ...]


@lru_cache(maxsize=32)
def _order_of(listing: Listing, sizes: tuple[int, ...]) -> _Order:
    summed = tuple(n for n, size in enumerate(sizes) if TINY_BYTES < size < SMALL_BYTES)
    digested = tuple(sorted({*range(len(sizes))} - {*summed}))
    places = {number: place for place, number in enumerate((*summed, *digested))}
    heads = tuple(listing.heads[number] for number in digested)
    return _Order(summed, digested, heads, tuple(places[n] for n in range(len(sizes))))


@lru_cache(maxsize=32)
def _digest_of(listing: Listing) -> bytes:
    described = zip(listing.encoded, listing.heads, strict=True)
    found: bytes = blake3(b"".join(name + head for name, head in described)).digest()
    return found
