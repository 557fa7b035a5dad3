"""Digests of models whose tensors are small and many: adapters of low rank, embeddings.

To begin and to end BLAKE3 for each of them takes longer than all other hashes of the file together.
So, where tensors have less than `SMALL_BYTES` on average, the digest of the whole is BLAKE3 over
`TOGETHER`, the BLAKE3 of the listing (for each tensor, in the order of names, its name as in
`converters.digest`, and its head), and the SHA-256 of the bytes of all tensors, in the order in
which the safetensors library writes them. Of files that it wrote, that is their AutoV3, and costs
nothing. What separates the tensors is in the listing. Names, types and shapes alone decide about
the rule, so that it is the same for every container; models with quantised blocks are no such.

In the place of a digest each tensor of such a model has the CRC-32 of its bytes, little endian. It
tells *which* tensors differ, of models of which the digests of the whole tell *that* they do, and
takes one of four billion changes for none. Who is after two tensors with one checksum will find
them; only the digest of the whole withstands that. Large tensors among them (`CHECKED_BYTES`) have
a digest as well, and small ones of other models a checksum, so that both can be compared.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from blake3 import blake3

from converters.statedict import Blocks, Buffer, StateDict
from converters.stored import StoredTensors, Structure
from converters.weights import CHECKSUM_BYTES, Joined, Listing

SMALL_BYTES = 16 << 10
MOST_BYTES = 64 << 20
"""What such a model has at most: it is in memory as a whole."""
TOGETHER = b"assetmgr small tensors 1\n"


def are_small(state: StateDict) -> bool:
    """Whether the tensors are digested together."""
    stored = state.tensors
    if isinstance(stored, StoredTensors):
        return _are_few_bytes(stored.structure.nbytes, len(state))
    has_blocks = any(isinstance(tensor.source, Blocks) for tensor in state.values())
    return not has_blocks and _are_few_bytes(state.nbytes, len(state))


def _are_few_bytes(nbytes: int, tensors: int) -> bool:
    return 0 < nbytes < SMALL_BYTES * tensors and nbytes <= MOST_BYTES


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


def checksums_of(places: Sequence[slice], data: Buffer) -> Joined:
    """What stands for each tensor of such a model, by its place in `data`.

    Pieces are cut out one by one: were there hundreds at a time, each file would have the garbage
    collector go through all that others wait with.
    """
    from zlib_ng.zlib_ng import crc32  # brings gzip with it: only for those who hash

    found = map(crc32, map(data.__getitem__, places))
    return Joined(struct.pack(f"<{len(places)}I", *found), CHECKSUM_BYTES)


@lru_cache(maxsize=32)
def _digest_of(listing: Listing) -> bytes:
    described = zip(listing.encoded, listing.heads, strict=True)
    found: bytes = blake3(b"".join(name + head for name, head in described)).digest()
    return found
