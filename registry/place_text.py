"""Paths in the database: a system's names need not be Unicode, the texts of databases must be.

On Linux a name is bytes, on Windows 16-bit units; what has no UTF-8 form is in Python's text as
lone surrogates (PEP 383), which neither SQLite nor PostgreSQL keeps. Here each stands as `//` and
its four digits: no path of the library has two slashes in a row, so nothing is taken for one.
"""

from __future__ import annotations

import re

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

_LONE = re.compile("[\ud800-\udfff]")
_KEPT = re.compile("//(d[89a-f][0-9a-f]{2})")


class PlaceText(TypeDecorator[str]):
    """A column of paths. It holds any path, and gives it back to the letter."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The path as it is kept."""
        if value is None or value.isascii():
            return value
        return _LONE.sub(lambda found: f"//{ord(found[0]):04x}", value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The path as the system knows it."""
        if value is None or "//" not in value:
            return value
        return _KEPT.sub(lambda found: chr(int(found[1], 16)), value)
