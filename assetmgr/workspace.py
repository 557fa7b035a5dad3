"""The surroundings of every operation: settings, folders, and the library."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from assetmgr.config import Settings, load_settings
from assetmgr.machine import name_machine, needs_name
from assetmgr.paths import Paths, find_paths
from converters.errors import WriteFailed

if TYPE_CHECKING:
    from registry.library import Library
    from registry.list_records import Page


_IN_A_FILE, _ODD = "sqlite:///", frozenset("?%:")
"""How the URL of a library in a file begins, and what makes more of it than a path."""


@dataclass(slots=True)
class Workspace:
    """What operations are given first; the library is opened when it is first used.

    Use as a context manager, or call `close`. Safe to use from several threads.
    """

    settings: Settings
    paths: Paths
    _library: Library | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @classmethod
    def open(cls) -> Self:
        """The workspace that the environment describes. Raises BadValue for wrong settings."""
        paths = find_paths()
        return cls(load_settings(paths), paths)

    @property
    def library(self) -> Library:
        """The library; created when it does not exist. Raises what `Library.open` raises."""
        with self._lock:
            if self._library is None:
                from registry.library import Library

                self._library = Library.open(self._database_url(), self._machine())
            return self._library

    @property
    def is_open(self) -> bool:
        """Whether the library was opened: to use it for the first time takes a while."""
        return self._library is not None

    @property
    def has_library(self) -> bool:
        """Whether there is a database, as far as that is known without opening it."""
        return self.settings.database_url is not None or self.paths.database.is_file()

    def surely_lacks(self, sha256: str) -> bool:
        """Whether the library has no such bytes, as far as its file tells.

        Opening it takes longer than a server needs for its first bytes; and of many files that
        arrive, hardly any is known, and each answer of an open one costs several times this.
        """
        if self.settings.database_url is not None:
            return False
        from registry.glance import lacks

        return lacks(self.paths.database, sha256)

    def first_page(self, query: str, sort: str, limit: int | None, offset: int) -> Page | None:
        """A part of a list, where the file of the library tells it alone: without opening it."""
        file = self._database_file()
        if file is None:
            return None
        from registry.searching.first_page import first_page

        return first_page(file, query, sort, limit, offset)

    def close(self) -> None:
        """Release the library."""
        with self._lock:
            if self._library is not None:
                self._library.close()
                self._library = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _database_file(self) -> Path | None:
        """Where the library lies as a file; None where only its URL's driver knows that."""
        url = self.settings.database_url
        if url is None:
            return self.paths.database
        path = url.removeprefix(_IN_A_FILE)
        return Path(path) if path != url and not _ODD & set(path) else None

    def _machine(self) -> str:
        return name_machine(self.paths.machine) if needs_name(self.settings.database_url) else ""

    def _database_url(self) -> str:
        if self.settings.database_url is not None:
            return self.settings.database_url
        try:
            self.paths.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            cause = f"the folder cannot be made: {error.strerror}"
            raise WriteFailed(cause, path=self.paths.home) from error
        return self.paths.database_url
