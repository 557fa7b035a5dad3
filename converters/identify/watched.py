"""Metadata that remember what was asked of them, to tell whether others would answer the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Watched(Mapping[str, str]):
    """Metadata of which single values were looked up, or everything (then `is_repeatable` ends)."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self._metadata = metadata
        self._asked: dict[str, str | None] = {}
        self.is_repeatable = True

    def __getitem__(self, key: str) -> str:
        value = self._metadata.get(key)
        self._asked[key] = value
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        self.is_repeatable = False
        return iter(self._metadata)

    def __len__(self) -> int:
        self.is_repeatable = False
        return len(self._metadata)

    def agrees(self, other: Mapping[str, str]) -> bool:
        """Whether other metadata would have given the same answers."""
        return all(other.get(key) == value for key, value in self._asked.items())
