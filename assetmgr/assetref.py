"""Models that are named as the contract allows: a path, `#ID`, a hash or its prefix, or a name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import FileMissing

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


def find_file(workspace: Workspace, reference: str) -> Path:
    """The file, or the pipeline's folder, a reference means; an existing path wins over all else.

    Raises AssetNotFound, AmbiguousAsset, or FileMissing when all files of the asset are gone.
    """
    from converters.containers import is_pipeline

    # Path.is_file raises for names that are too long.
    if os.path.isfile(reference) or is_pipeline(reference):  # noqa: PTH113
        return Path(reference)
    if _looks_like_a_path(reference):
        raise FileMissing("no such file", path=reference)
    asset = workspace.library.find(reference)
    if asset.path is None:
        raise FileMissing("no file of this asset is there", path=reference)
    return Path(asset.path)


def _looks_like_a_path(reference: str) -> bool:
    from converters.suffixes import MODEL_SUFFIXES

    return Path(reference).suffix.lower() in MODEL_SUFFIXES or Path(reference).is_absolute()
