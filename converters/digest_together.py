"""Digests of models whose tensors are small and many: adapters of low rank, embeddings.

To begin and to end BLAKE3 for each of them takes longer than all other hashes of the file together.
So, where tensors have less than `SMALL_BYTES` on average, the digest of the whole is BLAKE3 over
`TOGETHER`, the BLAKE3 of the listing (for each tensor, in the order of names, its name as in
`converters.digest`, and its head), and the SHA-256 of the bytes of all tensors, in the order in
which the safetensors library writes them. Of files that it wrote, that is their AutoV3, and costs
nothing. What separates the tensors is in the listing. Names, types and shapes alone decide about
the rule, so that it is the same for every container.

A tensor of more than `TINY_BYTES` and less than `SMALL_BYTES` of such a model has a checksum for a
digest: CRC-32 and Adler-32, four bytes each, little endian. These tell *which* tensors differ, of
models of which the digests of the whole tell *that* they do; somebody who is after two tensors with
one checksum will find them, and only that one of the whole withstands it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from blake3 import blake3

from converters.statedict import Buffer, StateDict
from converters.stored import StoredTensors, Structure
from converters.weights import DIGEST_BYTES, Joined, Listing

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


def whole_together(listing: Listing, sha256: bytes) -> str:
    """The digest of a model by the SHA-256 of its tensors, in the order of `listing.written`."""
    whole: str = blake3(TOGETHER + _digest_of(listing) + sha256).hexdigest()
    return whole


def are_as_written(listing: Listing, structure: Structure) -> bool:
    """Whether the tensors of a file lie in that order, one after the other."""
    at = 0
    for place in listing.written:
        entry = structure.entries[listing.names[place]]
        if entry.begin != at:
            return False
        at = entry.end
    return True


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tensors of a model lie in its bytes: what digests are made of, and what checksums.

    `back` are the places of these, one after the other, in the order of the listing, and `lengths`
    their bytes in that order.
    """

    summed: tuple[slice, ...]
    digested: tuple[tuple[bytes, slice], ...]
    back: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, listing: Listing, places: Sequence[slice]) -> Places:
        """Those of the tensors of a listing, in its order."""
        sizes = [place.stop - place.start for place in places]
        summed = dict.fromkeys(n for n, size in enumerate(sizes) if TINY_BYTES < size < SMALL_BYTES)
        digested = [n for n in range(len(sizes)) if n not in summed]
        back = {number: place for place, number in enumerate((*summed, *digested))}
        return cls(
            tuple(places[n] for n in summed),
            tuple((listing.heads[n], places[n]) for n in digested),
            tuple(back[n] for n in range(len(sizes))),
            tuple(_CHECKSUM.size if n in summed else DIGEST_BYTES for n in range(len(sizes))),
        )


def digests_of(places: Places, data: Buffer) -> Joined:
    """What stands for each tensor of such a model, in the order of the listing.

    Pieces are cut out one by one: were there hundreds at a time, each file would have the garbage
    collector go through all that others wait with.
    """
    from zlib_ng.zlib_ng import adler32, crc32  # brings gzip with it: only for those who hash

    checksum = _CHECKSUM.pack
    found = [checksum(crc32(piece := data[place]), adler32(piece)) for place in places.summed] + [
        _short_digest_of(head, data[place]) for head, place in places.digested
    ]
    return Joined(b"".join(map(found.__getitem__, places.back)), places.lengths)


def _short_digest_of(head: bytes, piece: Buffer) -> bytes:
    if len(piece) <= TINY_BYTES:
        return _short_digest(head + piece)
    found: bytes = blake3(head + piece).digest(DIGEST_BYTES)
    return found


@lru_cache(maxsize=1024)
def _short_digest(data: bytes) -> bytes:
    found: bytes = blake3(data).digest(DIGEST_BYTES)
    return found


@lru_cache(maxsize=32)
def _digest_of(listing: Listing) -> bytes:
    described = zip(listing.encoded, listing.heads, strict=True)
    found: bytes = blake3(b"".join(name + head for name, head in described)).digest()
    return found
