"""The failure of the library as a whole; failures of single assets are in `converters.errors`."""

from __future__ import annotations

from converters.errors import AssetmgrError


class LibraryUnusable(AssetmgrError):
    """The database cannot be opened, read or written, or belongs to another program version."""

    code = "library_unusable"
    exit_code = 3
