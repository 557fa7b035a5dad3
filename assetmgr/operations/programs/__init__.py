"""Which program a folder belongs to, and where its configuration says that more models are.

One row per program, one module per row: a module has `TITLE`, `is_root`, which looks at marker
files alone, and `folders`, which reads the configuration. Configurations are other people's files:
what is wrong with one becomes a warning, and nothing in it is run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from assetmgr.operations.programs import (
    a1111,
    comfyui,
    fooocus,
    hub_cache,
    invokeai,
    kohya,
    sdnext,
    stability_matrix,
)
from assetmgr.operations.programs.configuration import Configuration

__all__ = ["Program", "programs_of", "recognise"]


@dataclass(frozen=True, slots=True)
class Program:
    """A program that was recognised: its folder, and the folders with models that lie elsewhere."""

    name: str
    root: str
    folders: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The entry of a document."""
        return {
            "program": self.name,
            "root": self.root,
            "folders": list(self.folders),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True)
class _Row:
    title: Callable[[Path], str]
    is_root: Callable[[Path], bool]
    folders: Callable[[Configuration], Iterator[Path]]


_ROWS = (
    _Row(fooocus.title, fooocus.is_root, fooocus.folders),
    _Row(sdnext.title, sdnext.is_root, sdnext.folders),
    _Row(a1111.title, a1111.is_root, a1111.folders),
    _Row(comfyui.title, comfyui.is_root, comfyui.folders),
    _Row(invokeai.title, invokeai.is_root, invokeai.folders),
    _Row(stability_matrix.title, stability_matrix.is_root, stability_matrix.folders),
    _Row(kohya.title, kohya.is_root, kohya.folders),
    _Row(hub_cache.title, hub_cache.is_root, hub_cache.folders),
)
"""The first that knows a folder counts: Fooocus and SD.Next have the markers of A1111, too."""


def recognise(folder: str | os.PathLike[str]) -> Program | None:
    """The program whose own folder this is; None for any other folder."""
    root = Path(folder)
    for row in _ROWS:
        if row.is_root(root):
            configuration = Configuration(root)
            named = list(row.folders(configuration))
            elsewhere = tuple(_elsewhere(root, named, configuration))
            title = row.title(root)
            return Program(title, str(root), elsewhere, tuple(configuration.warnings))
    return None


def programs_of(folders: Iterable[str | os.PathLike[str]]) -> tuple[Program, ...]:
    """The programs that some of the folders belong to."""
    return tuple(found for folder in folders if (found := recognise(folder)) is not None)


def _elsewhere(root: Path, named: Iterable[Path], configuration: Configuration) -> Iterator[str]:
    """The folders that are there and not met by looking through the program's own."""
    from registry.scanning.places import within

    real_root = os.path.realpath(root)
    seen: set[str] = set()
    for folder in named:
        real = os.path.realpath(folder)
        if real in seen or within(real, real_root):
            continue
        seen.add(real)
        if not os.path.isdir(real):  # noqa: PTH112  # never raises
            configuration.warn(f"{folder} is named for models and is not there")
        elif within(real_root, real):
            configuration.warn(f"{folder} holds the program itself and is not scanned for it")
        else:
            yield real
