"""Whether the pages of an SQLite library can be read, looked at while something else goes on.

Who only reads some tables does not come across damage in the others. A scan says that a library is
up to date, so it looks at all of it: that costs a hundredth of a second for thousands of assets, on
a processor that would wait for disks.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from registry.errors import LibraryUnusable
from registry.storage.causes import advice, explain

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
"""Newer versions of SQLite read a whole full-text index for its virtual table; its own are here."""


@contextlib.contextmanager
def looked_through(file: Path) -> Iterator[None]:
    """Look at a database's pages meanwhile. Raises LibraryUnusable in the end if some are damaged.

    And at once if its file is gone; what else cannot be looked at (it is locked, or closed to us)
    is no damage.
    """
    try:
        look = _Look(file)
    except sqlite3.OperationalError as error:
        cause, hint = explain(error)
        raise LibraryUnusable(cause, path=str(file), hint=hint) from error
    look.start()
    try:
        yield
    except BaseException:
        look.stop()
        raise
    look.join()
    if look.is_damaged:
        raise LibraryUnusable("is corrupt", path=str(file), hint=advice(file))


class _Look(threading.Thread):
    """A thread of its own: SQLite does not hold the interpreter while it reads."""

    def __init__(self, file: Path) -> None:
        super().__init__(name="pages of the library", daemon=True)
        place = f"{file.absolute().as_uri()}?mode=ro"
        self._database = sqlite3.connect(place, uri=True, check_same_thread=False)
        self.is_damaged = False

    def run(self) -> None:
        """Look at one table after the other, with its indexes."""
        try:
            tables = [name for (name,) in self._database.execute(_TABLES)]
            self.is_damaged = any(map(self._has_damage, tables))
        except sqlite3.OperationalError:  # locked, or stopped
            pass
        except sqlite3.DatabaseError:
            self.is_damaged = True
        finally:
            self._database.close()

    def _has_damage(self, table: str) -> bool:
        found = self._database.execute(f"PRAGMA quick_check({_quoted(table)})").fetchone()
        return bool(found != ("ok",))

    def stop(self) -> None:
        """End soon; nobody waits for the answer."""
        with contextlib.suppress(sqlite3.ProgrammingError):  # it has ended
            self._database.interrupt()
        self.join()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
