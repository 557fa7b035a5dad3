"""Whether the files that a merge is given are all others, and its target none of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from converters.errors import BadValue

ADAPTER_TWICE = "give it once, with the sum of its weights"


def refuse_source(output: Path, sources: Sequence[Path]) -> None:
    """Raises BadValue for a target that is also a source, by whatever name."""
    if is_among(output.absolute(), [source.absolute() for source in sources]):
        raise BadValue("is also a source", path=output)


def require_once(
    paths: Sequence[Path], names: Sequence[str] = (), *, hint: str | None = None
) -> None:
    """Raises BadValue for a file that is given twice, by whatever names.

    `names` are what the files are called by their positions, where they are called anything.
    """
    for position, path in enumerate(paths):
        for earlier, other in enumerate(paths[:position]):
            if is_among(path, (other,)):
                told = f", as {names[earlier]} and as {names[position]}" if names else ""
                raise BadValue(f"is given twice{told}", path=path, hint=hint)


def is_among(path: Path, others: Sequence[Path]) -> bool:
    """Whether a file is one of several, by whatever name."""
    return any(path == other or _is_same(path, other) for other in others)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return False
