"""Where a database is: its URL, and of an SQLite database its file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import exc, make_url
from sqlalchemy.engine import URL

from converters.errors import BadValue
from registry.errors import LibraryUnusable


def parse(url: str) -> URL:
    """A SQLAlchemy URL. Raises BadValue for what is none."""
    try:
        return make_url(url)
    except exc.ArgumentError as error:
        raise BadValue(f"not a database URL: {url}", hint="as in sqlite:////path/library.db") from (
            error
        )


def file_of(url: URL) -> Path | None:
    """The file of an SQLite database, which may be named by a URI (https://sqlite.org/uri.html)."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return None
    if not url.database.startswith("file:"):
        return Path(url.database)
    return Path(unquote(url.database.removeprefix("file:").partition("?")[0]))


def name_of(url: URL) -> str:
    """What to call a database: the path of its file, or its URL without the password."""
    on_disk = url.get_backend_name() == "sqlite" and url.database
    return on_disk or url.render_as_string(hide_password=True)


def make_folder(url: URL) -> None:
    """That of an SQLite database. Raises LibraryUnusable."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        return
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryUnusable(
            f"its folder cannot be made: {error.strerror}", path=url.database
        ) from error
