"""Which files a list of files and folders means."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from converters.errors import BadValue
from converters.suffixes import MODEL_SUFFIXES


def model_files(
    paths: Iterable[str],
    *,
    recursive: bool = True,
    is_whole: Callable[[Path], bool] = lambda _: False,
) -> Iterator[Path]:
    """Files as they are given, folders as the model files in them, in the order of their names.

    A folder that `is_whole`, as that of a diffusers pipeline, is one model instead of its files.
    Raises BadValue for the address of a page.
    """
    for path in _local(paths):
        if is_whole(path):
            yield path
        elif os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises for folders closed to us
            yield from sorted(_in_folder(path, recursive, is_whole))
        else:
            yield path


def _local(paths: Iterable[str]) -> list[Path]:
    """Paths of this machine: an address would lose a slash, and be missing under that name."""
    given = list(paths)
    for each in given:
        if "://" in os.fspath(each) and not os.path.lexists(each):
            hint = "`assetmgr hub peek` and `assetmgr civitai peek` look into files of these sites"
            raise BadValue("is an address, not a file", path=each, hint=hint)
    return [Path(each) for each in given]


def _in_folder(folder: Path, recursive: bool, is_whole: Callable[[Path], bool]) -> Iterator[Path]:
    """The model files, and the folders that cannot be looked into: opening them names the cause."""
    closed: list[Path] = []
    for where, folders, names in os.walk(folder, onerror=lambda e: closed.append(Path(e.filename))):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        whole = [name for name in folders if is_whole(Path(where, name))]
        yield from (Path(where, name) for name in whole)
        folders[:] = [name for name in folders if name not in whole]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in MODEL_SUFFIXES:
                yield Path(where, name)
    yield from closed
