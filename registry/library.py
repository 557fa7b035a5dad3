"""The only door to the library: find, read and record assets. Safe to use from several threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from converters.errors import BadValue
from registry.arriving import Arriving
from registry.asking import Asking
from registry.tables import tensor_rows, writing
from registry.text import fold

if TYPE_CHECKING:
    from converters.statedict import Plain
    from converters.weights import Weights
    from registry.records import Parent, Preview, Source

HIGHEST_RATING = 5


class Library(Asking, Arriving):
    """A library in a database: what it is asked, what arrives in it, and what is written on assets.

    Use as a context manager, or call `close`. Every method may raise LibraryUnusable (corrupt,
    locked, read-only, newer than the program); methods taking a number raise AssetNotFound.
    """

    def tag(
        self, asset_ids: Iterable[int], add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> None:
        """Add and remove tags; tags are kept in lower case. Raises BadValue for an empty tag."""
        ids, added, removed = list(asset_ids), _tags(add), _tags(remove)
        with self._database.writing() as connection:
            writing.require(connection, ids)
            writing.set_tags(connection, ids, added, removed)

    def note(self, asset_id: int, text: str | None) -> None:
        """Keep a note on an asset; None or an empty text removes it."""
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.touch(connection, asset_id, note=(text or "").strip() or None)

    def rate(self, asset_id: int, rating: int | None) -> None:
        """Rate an asset from 0 to 5. Raises BadValue."""
        if rating is not None and not 0 <= rating <= HIGHEST_RATING:
            raise BadValue(f"a rating is a number from 0 to {HIGHEST_RATING}, not {rating}")
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.touch(connection, asset_id, rating=rating)

    def record_derived(
        self,
        asset_id: int,
        parents: Sequence[Parent],
        operation: str,
        parameters: Mapping[str, Plain],
        version: str | None = None,
    ) -> None:
        """Record what an asset was made from, by a version of the program.

        Saying the same twice changes nothing.
        """
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            for parent in parents:
                writing.record_derived(connection, asset_id, parent, operation, parameters, version)

    def record_source(self, asset_id: int, source: Source) -> None:
        """Record where an asset came from. Saying the same twice changes nothing."""
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.record_sources(connection, [(asset_id, source)])

    def record_preview(self, asset_id: int, preview: Preview) -> None:
        """Keep the newest preview of an asset."""
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.record_preview(connection, asset_id, preview)

    def record_verification(
        self, asset_id: int, *, integrity: str | None = None, structure: str | None = None
    ) -> None:
        """Keep what a check of the file found; None leaves what is known."""
        checks = {"integrity": integrity, "structure": structure}
        found = {name: result for name, result in checks.items() if result is not None}
        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.record_verification(connection, asset_id, found)

    def record_weights(self, asset_id: int, weights: Weights) -> None:
        """Keep the digests of an asset's tensors and components."""
        from converters.tensor_table import PackedWeights  # not for looking at a library

        with self._database.writing() as connection:
            writing.require(connection, [asset_id])
            writing.touch(connection, asset_id, weights=weights.whole)
            tensor_rows.record(connection, {asset_id: PackedWeights.of(weights)})

    def forget(self, asset_ids: Iterable[int]) -> None:
        """Remove assets with all that was written on them; their files are not touched."""
        ids = list(asset_ids)
        with self._database.writing() as connection:
            writing.require(connection, ids)
            writing.forget(connection, ids)


def _tags(names: Iterable[str]) -> tuple[str, ...]:
    """Tags as they are kept: folded, each once."""
    tags = tuple(dict.fromkeys(fold(name).strip() for name in names))
    if not all(tags):
        raise BadValue("a tag needs at least one letter")
    return tags
