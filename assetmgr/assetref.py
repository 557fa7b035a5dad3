"""Models that are named as the contract allows: a path, `#ID`, a hash or its prefix, or a name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from converters.bytesource import FileBytes
from converters.errors import AssetNotFound, FileMissing, UnsupportedFile

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


def find_file(workspace: Workspace, reference: str) -> Path:
    """The file, or the pipeline's folder, a reference means; an existing path wins over all else.

    The folder of an adapter of PEFT means its weights. Raises AssetNotFound, AmbiguousAsset,
    FileMissing when all files of the asset are gone, FileUnreadable for what is no file, or
    UnsupportedFile for a folder with adapters of several networks.
    """
    from converters.adapters.opening import networks_in, weights_in
    from converters.containers import is_pipeline

    # Path.is_file raises for names that are too long.
    if os.path.isfile(reference) or is_pipeline(reference):  # noqa: PTH113
        return Path(reference)
    if (weights := weights_in(reference)) is not None:
        return weights
    if parts := networks_in(reference):
        raise UnsupportedFile(
            f"holds adapters of {len(parts)} networks: {', '.join(part.name for part in parts)}",
            path=reference,
            hint="name the folder of one of them",
        )
    if _looks_like_a_path(reference):
        return _opened(reference)
    try:
        asset = workspace.library.find(reference)
    except AssetNotFound:
        if os.path.exists(reference):  # noqa: PTH110  # as above
            return _opened(reference)
        raise
    if asset.path is None:
        raise FileMissing("no file of this asset is there", path=reference)
    return Path(asset.path)


def _opened(reference: str) -> Path:
    """The path, unless opening it says what is wrong with it."""
    FileBytes(reference).close()
    return Path(reference)


def _looks_like_a_path(reference: str) -> bool:
    from converters.suffixes import MODEL_SUFFIXES

    return Path(reference).suffix.lower() in MODEL_SUFFIXES or Path(reference).is_absolute()
