"""Columns of paths: what they hold is as `registry.text` keeps places."""

from __future__ import annotations

from sqlalchemy import Dialect, Text
from sqlalchemy.types import TypeDecorator

from registry.text import kept_place, place_kept


class PlaceText(TypeDecorator[str]):
    """A column of paths. It holds any path, and gives it back to the letter."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The path as it is kept."""
        return None if value is None else kept_place(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The path as the system knows it."""
        return None if value is None else place_kept(value)
