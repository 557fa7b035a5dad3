"""Fetched files get their names and their places in the library."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.announced import Announced
from assetmgr.operations.downloads.loading import load
from converters.errors import AssetmgrError, AssetNotFound, TargetExists
from converters.hashing import FileHashes
from converters.kinds import Kind
from converters.suffixes import MODEL_SUFFIXES
from converters.writers.atomic import naming, refuse_existing, sync_folder
from registry.storage.together import Together

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

INDEXES = "*.index*.json"
"""Names of what puts together models in several files."""


@dataclass(frozen=True, slots=True)
class Received:
    """A file that is in the library now; `state` is `downloaded` or `already`."""

    path: Path
    asset: Asset
    state: str


def get_ready(workspace: Workspace) -> None:
    """Have what the end of a download needs, while its bytes are on their way.

    Raises what `Workspace.library` raises: nothing could be registered then.
    """
    load()
    _ = workspace.library


def give_name(part: Path, target: Path) -> None:
    """Give fetched bytes their name, unless something else has it by now."""
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(part, target)
        except FileExistsError as error:
            raise taken(target) from error
        except (OSError, NotImplementedError, AttributeError):
            # No hard links on this file system: on Windows a rename refuses by itself.
            refuse_existing(target, overwrite=False)
            part.rename(target)
        _synced(target.parent)


def taken(target: Path) -> AssetmgrError:
    """The error of a name that something else has."""
    hint = "name another folder with --to"
    return TargetExists("already exists with other content", path=target, hint=hint)


def _sync_folders(folders: Sequence[Path]) -> list[None]:
    for folder in set(folders):
        sync_folder(folder)
    return [None for _ in folders]


_synced = Together(_sync_folders)
"""Makes new names durable: of all files that arrive at once in one step."""


def register(
    workspace: Workspace, file: Announced, target: Path, hashes: FileHashes | None, state: str
) -> Received:
    """Record a file that has its name; what is not known of it is read."""
    load()
    from registry.scanning.scanner import scan_file

    asset = scan_file(workspace.library, target, hashes=hashes, source=file.source)
    for index in _indexes_beside(target):
        with contextlib.suppress(AssetNotFound):
            if workspace.library.find(str(index)).kind == Kind.UNKNOWN:
                scan_file(workspace.library, index)
    return Received(target, asset, state)


def _indexes_beside(target: Path) -> list[Path]:
    """The indexes whose model may be whole now that a file of weights has come."""
    is_one = target.suffix.lower() in MODEL_SUFFIXES
    return [path for path in target.parent.glob(INDEXES) if path.is_file()] if is_one else []
