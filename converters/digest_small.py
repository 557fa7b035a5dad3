"""Digests of small files, of which collections have thousands with the same names and shapes.

What is the same for all files of one structure is worked out once; the result is that of
`converters.digest`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from blake3 import blake3

from converters.digest import Parts, WeightsDigest, is_at, whole_of
from converters.digest_together import (
    are_as_written,
    are_small,
    checksums_of,
    whole_together,
)
from converters.statedict import StateDict
from converters.stored import StoredTensors, Structure
from converters.weights import DIGEST_BYTES, Joined, Listing, TensorDigests, Weights


def weigh_content(
    state: StateDict,
    parts: Parts,
    path: Path,
    content: memoryview,
    autov3: str | None = None,
) -> Weights:
    """All digests of the tensors of the file at `path`, whose whole content is at hand.

    `autov3` is that of a safetensors file. Raises FileProblem as `WeightsDigest.finish` does.
    """
    stored = state.tensors
    if isinstance(stored, StoredTensors) and not parts and is_at(stored.source, path):
        return _weigh_stored(stored, are_small(state), content, autov3)
    digest = WeightsDigest(state, parts)
    digest.stream(path)(content)
    return digest.finish(autov3=autov3)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the tensors of a structure lie, in the order of the listing."""

    listing: Listing
    places: tuple[slice, ...]
    are_as_written: bool

    @classmethod
    def of(cls, structure: Structure) -> _Plan:
        entries = structure.entries
        listing = Listing({name: (e.dtype.label, e.shape) for name, e in entries.items()})
        places = tuple(slice(*entries[name][2:]) for name in listing.names)
        as_written = are_as_written(listing, structure)
        return cls(listing, places, as_written)

    def digest(self, place: int, data: memoryview) -> bytes:
        """That of one tensor."""
        hashed: bytes = blake3(self.listing.heads[place] + data[self.places[place]]).digest()
        return hashed

    def sha256(self, data: memoryview, autov3: str | None) -> bytes:
        """That of the tensors as the safetensors library writes them."""
        if self.are_as_written and autov3 is not None:
            return bytes.fromhex(autov3)
        pieces = (data[self.places[place]] for place in self.listing.written)
        return hashlib.sha256(b"".join(pieces)).digest()


_PLANS: WeakKeyDictionary[Structure, _Plan] = WeakKeyDictionary()


def _weigh_stored(
    stored: StoredTensors, is_together: bool, content: memoryview, autov3: str | None
) -> Weights:
    """The same as the stream of the file would give, without describing each tensor anew."""
    plan = _PLANS.get(stored.structure)
    if plan is None:
        plan = _PLANS[stored.structure] = _Plan.of(stored.structure)
    listing, data = plan.listing, content[stored.start :]
    if is_together:
        digests: Sequence[bytes] = checksums_of(plan.places, data)
        whole = whole_together(listing, plan.sha256(data, autov3))
        large = [plan.digest(place, data)[:DIGEST_BYTES] for place in listing.digested]
        others = Joined(b"".join(large), DIGEST_BYTES)
    else:
        digests = [plan.digest(place, data) for place in range(len(plan.places))]
        whole = whole_of(listing, digests)
        others = checksums_of([plan.places[place] for place in listing.checked], data)
    stored.source.check_unchanged()
    return Weights(whole, {}, TensorDigests(listing, digests, others))
