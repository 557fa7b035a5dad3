"""Whether the files that an operation is given are all others, and its target none of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from converters.bytesource import FileBytes
from converters.errors import BadValue
from converters.statedict import StateDict

ADAPTER_TWICE = "give it once, with the sum of its weights"


def refuse_source(output: Path, sources: Iterable[Path]) -> None:
    """Raises BadValue for a target that is also a source, by whatever name, or holds one."""
    target = output.absolute()
    for path in sources:
        if is_among(target, (path.absolute(),)):
            raise BadValue("is also a source", path=output)
        if _is_in(path, target):
            raise BadValue(f"is a folder with a source in it, {path.name}", path=output)


def files_of(state: StateDict) -> tuple[Path, ...]:
    """The files that tensors are read from: a model may lie in several."""
    sources = {source for tensor in state.values() for source in tensor.sources}
    return tuple(source.path for source in sources if isinstance(source, FileBytes))


def _is_in(path: Path, folder: Path) -> bool:
    return os.path.isdir(folder) and path.resolve().is_relative_to(folder.resolve())  # noqa: PTH112


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
