"""Digests of small files, of which collections have thousands with the same names and shapes.

What is the same for all files of one structure is worked out once; the result is that of
`converters.digest`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from blake3 import blake3

from converters.digest import Parts, WeightsDigest, is_at, whole_of
from converters.digest_together import are_small, digests_of, whole_together
from converters.statedict import StateDict
from converters.stored import StoredTensors, Structure
from converters.weights import Listing, TensorDigests, Weights


def weigh_content(state: StateDict, parts: Parts, path: Path, content: memoryview) -> Weights:
    """All digests of the tensors of the file at `path`, whose whole content is at hand.

    Raises FileProblem as `WeightsDigest.finish` does.
    """
    stored = state.tensors
    if isinstance(stored, StoredTensors) and not parts and is_at(stored.source, path):
        return _weigh_stored(stored, are_small(state), content)
    digest = WeightsDigest(state, parts)
    digest.stream(path)(content)
    return digest.finish()


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the tensors of a structure lie, in the order of the listing.

    `runs` are the same places, those that follow each other as one: the safetensors library writes
    all tensors of one type in that order.
    """

    listing: Listing
    places: tuple[slice, ...]
    runs: tuple[slice, ...]

    @classmethod
    def of(cls, structure: Structure) -> _Plan:
        entries = structure.entries
        listing = Listing({name: (e.dtype.label, e.shape) for name, e in entries.items()})
        places = tuple(slice(*entries[name][2:]) for name in listing.names)
        return cls(listing, places, tuple(_runs(places)))


def _runs(places: Iterable[slice]) -> Iterator[slice]:
    run: slice | None = None
    for place in places:
        if run is not None and run.stop == place.start:
            run = slice(run.start, place.stop)
            continue
        if run is not None:
            yield run
        run = place
    if run is not None:
        yield run


_PLANS: WeakKeyDictionary[Structure, _Plan] = WeakKeyDictionary()


def _weigh_stored(stored: StoredTensors, is_together: bool, content: memoryview) -> Weights:
    """The same as the stream of the file would give, without describing each tensor anew."""
    plan = _PLANS.get(stored.structure)
    if plan is None:
        plan = _PLANS[stored.structure] = _Plan.of(stored.structure)
    listing, data = plan.listing, content[stored.start :]
    pieces = list(map(data.__getitem__, plan.places))
    if is_together:
        digests = digests_of(listing, pieces)
        whole = whole_together(listing, list(map(data.__getitem__, plan.runs)))
    else:
        digests = [
            blake3(head + piece).digest() for head, piece in zip(listing.heads, pieces, strict=True)
        ]
        whole = whole_of(listing, digests)
    stored.source.check_unchanged()
    return Weights(whole, {}, TensorDigests(listing, digests))
