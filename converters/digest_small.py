"""Digests of small files, of which collections have thousands with the same names and shapes.

What is the same for all files of one structure is worked out once; the result is that of
`converters.digest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

from blake3 import blake3

from converters.digest import Parts, WeightsDigest, head_of, is_at, whole_of
from converters.statedict import StateDict
from converters.stored import StoredTensors, Structure
from converters.weights import Listing, TensorDigests, Weights

TINY_BYTES = 16
"""Adapters have a scale of a few bytes in each module, nearly always of the same few values."""


def weigh_content(state: StateDict, parts: Parts, path: Path, content: memoryview) -> Weights:
    """All digests of the tensors of the file at `path`, whose whole content is at hand.

    Raises FileProblem as `WeightsDigest.finish` does.
    """
    stored = state.tensors
    if isinstance(stored, StoredTensors) and not parts and is_at(stored.source, path):
        return _weigh_stored(stored, content)
    digest = WeightsDigest(state, parts)
    digest.stream(path)(content)
    return digest.finish()


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the tensors of a structure are digested: `(head, begin, end)` in the listing's order."""

    listing: Listing
    steps: tuple[tuple[bytes, int, int], ...]

    @classmethod
    def of(cls, structure: Structure) -> _Plan:
        entries = structure.entries
        listing = Listing({name: (e.dtype.label, e.shape) for name, e in entries.items()})
        places = (entries[name][2:] for name in listing.names)
        heads = (head_of(*kind) for kind in listing.kinds)
        return cls(listing, tuple((h, *place) for h, place in zip(heads, places, strict=True)))


_PLANS: WeakKeyDictionary[Structure, _Plan] = WeakKeyDictionary()


def _weigh_stored(stored: StoredTensors, content: memoryview) -> Weights:
    """The same as the stream of the file would give, without describing each tensor anew."""
    plan = _PLANS.get(stored.structure)
    if plan is None:
        plan = _PLANS[stored.structure] = _Plan.of(stored.structure)
    start = stored.start
    digests = [
        blake3(head + content[start + begin : start + end]).digest()
        if end - begin > TINY_BYTES
        else _tiny(head + content[start + begin : start + end])
        for head, begin, end in plan.steps
    ]
    stored.source.check_unchanged()
    return Weights(whole_of(plan.listing, digests), {}, TensorDigests(plan.listing, digests))


@lru_cache(maxsize=1024)
def _tiny(data: bytes) -> bytes:
    found: bytes = blake3(data).digest()
    return found
