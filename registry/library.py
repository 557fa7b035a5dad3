"""The only door to the library: find, read and record assets. Safe to use from several threads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from converters.statedict import Plain
from registry.records import (
    Asset,
    Page,
    Parent,
    Preview,
    ScannedFile,
    Source,
)


class Library:
    """A library in a database. Use as a context manager, or call `close`.

    Every method may raise LibraryUnusable (corrupt, locked, read-only, newer than the program);
    methods taking a number raise AssetNotFound.
    """

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the library at a SQLAlchemy URL (`sqlite:////path/library.db`); create it if new."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the database."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def search(
        self, query: str = "", *, sort: str = "name", limit: int | None = None, offset: int = 0
    ) -> Page:
        """The rows that match a query, in an order ("-size" descends). Raises BadValue."""
        raise NotImplementedError

    def assets(
        self, query: str = "", *, sort: str = "name", limit: int | None = None, offset: int = 0
    ) -> tuple[Asset, ...]:
        """As `search`, but all that is known of each asset."""
        raise NotImplementedError

    def get(self, asset_id: int) -> Asset:
        """Everything known of one asset. Raises AssetNotFound."""
        raise NotImplementedError

    def find(self, reference: str) -> Asset:
        """The asset with this path, #ID, hash or hash prefix of 6+ digits, or exact name.

        Raises AssetNotFound, or AmbiguousAsset listing the candidates.
        """
        raise NotImplementedError

    def kinds(self) -> Mapping[str, int]:
        """How many assets there are of each kind."""
        raise NotImplementedError

    def bases(self, base: str = "sd-1") -> tuple[Asset, ...]:
        """Present, complete checkpoints of a family that adapters can be tried on, best first."""
        raise NotImplementedError

    def tag(
        self, asset_ids: Iterable[int], add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> None:
        """Add and remove tags; tags are kept in lower case. Raises BadValue for an empty tag."""
        raise NotImplementedError

    def note(self, asset_id: int, text: str | None) -> None:
        """Keep a note on an asset; None or an empty text removes it."""
        raise NotImplementedError

    def rate(self, asset_id: int, rating: int | None) -> None:
        """Rate an asset from 0 to 5. Raises BadValue."""
        raise NotImplementedError

    def record_file(self, scanned: ScannedFile) -> Asset:
        """Record a file at its place; content that is known already keeps its user data."""
        raise NotImplementedError

    def record_derived(
        self,
        asset_id: int,
        parents: Sequence[Parent],
        operation: str,
        parameters: Mapping[str, Plain],
    ) -> None:
        """Record what an asset was made from. Saying the same twice changes nothing."""
        raise NotImplementedError

    def record_source(self, asset_id: int, source: Source) -> None:
        """Record where an asset came from. Saying the same twice changes nothing."""
        raise NotImplementedError

    def record_preview(self, asset_id: int, preview: Preview) -> None:
        """Keep the newest preview of an asset."""
        raise NotImplementedError

    def record_verification(
        self, asset_id: int, *, integrity: str | None = None, structure: str | None = None
    ) -> None:
        """Keep what a check of the file found; None leaves what is known."""
        raise NotImplementedError

    def roots(self) -> tuple[str, ...]:
        """The folders that belong to the library."""
        raise NotImplementedError

    def add_root(self, path: str | os.PathLike[str]) -> str:
        """Make a folder part of the library; gives its canonical path."""
        raise NotImplementedError
