"""A database that was opened as a library, for one machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self

from registry.storage.database import Database


class Opened:
    """What all parts of the library stand on. Use as a context manager, or call `close`."""

    def __init__(self, database: Database, machine: str = "") -> None:
        self._database = database
        self._machine = machine

    @property
    def name(self) -> str:
        """What the database is called: a path, or its URL without the password."""
        return self._database.name

    @classmethod
    def open(cls, url: str, machine: str = "") -> Self:
        """Open the library at a SQLAlchemy URL (`sqlite:////path/library.db`); create it if new.

        Folders and files belong to a `machine`, which needs a name when several share a database.
        """
        return cls(Database(url), machine)

    def looked_through(self) -> AbstractContextManager[None]:
        """Look at the pages of an SQLite library meanwhile: on leaving raises LibraryUnusable."""
        from registry.storage.soundness import looked_through

        file = self._database.file
        self._database.in_place.require()
        return nullcontext() if file is None else looked_through(file)

    def close(self) -> None:
        """Release the database."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
