"""Headers that differ from others in their first key alone: the rest of them is read once.

Collections hold thousands of files of one structure, whose headers have a hundred kilobytes. To
compare one with those met last takes a fifth of the time that a hash of it would, and copies
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from converters.containers.strict_json import split_first

_T = TypeVar("_T")


class SharedHeaders(Generic[_T]):
    """What `make` made of the JSON behind the key, of the `most` headers met last."""

    def __init__(self, key: str, make: Callable[[bytes], _T], most: int) -> None:
        self._key, self._make, self._most = key, make, most
        self._met: tuple[tuple[bytes, _T], ...] = ()  # replaced as a whole: threads share it

    def split(self, header: bytes) -> tuple[object, _T] | None:
        """The value of the first key, and what was made of the rest.

        None where `split_first` has none. Raises what `make` raises.
        """
        for rest, made in self._met:
            if header.endswith(rest):
                # One letter of the rest shows that nothing else lies between.
                found = split_first(header[: len(header) - len(rest) + 1], self._key)
                if found is not None and len(found[1]) == 1:
                    self._keep(rest, made)
                    return found[0], made
        parts = split_first(header, self._key)
        if parts is None:
            return None
        rest = parts[1].encode()
        made = self._make(rest)
        self._keep(rest, made)
        return parts[0], made

    def _keep(self, rest: bytes, made: _T) -> None:
        if not self._met or self._met[0][0] is not rest:
            others = (pair for pair in self._met if pair[0] is not rest)
            self._met = ((rest, made), *others)[: self._most]
