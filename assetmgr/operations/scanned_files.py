"""Files of assets before something is done to them: as scanned, and what lies beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from converters.bytesource import Fingerprint
from converters.errors import FileMissing, SourceChanged, UnsupportedFile
from converters.suffixes import MODEL_SUFFIXES

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import File


def find_file(workspace: Workspace, asset: int, number: int, path: str) -> File:
    """A file as the library knows it now. Raises AssetNotFound, FileMissing."""
    for file in workspace.library.get(asset).files:
        if file.id == number:
            return file
    raise FileMissing("is not in the library any more", path=path)


def require_as_scanned(file: File) -> None:
    """Raises FileMissing, SourceChanged, and UnsupportedFile for what the Hub's cache keeps."""
    path = Path(file.path)
    if _in_hub_cache(path):
        cause = "lies in the cache of the Hugging Face Hub, which shares files among revisions"
        raise UnsupportedFile(cause, path=path, hint="use: hf cache rm")
    require_unchanged(file)


def require_unchanged(file: File) -> None:
    """Raises FileMissing, and SourceChanged for a file that is not the one that was scanned."""
    from registry.scanning.on_disk import fingerprint_of

    if fingerprint_of(file.path) != Fingerprint(file.bytes, file.mtime_ns, file.inode):
        hint = "scan its folder again"
        raise SourceChanged("changed since it was scanned", path=file.path, hint=hint)


def _in_hub_cache(path: Path) -> bool:
    """Whether a path goes through `models--ORG--NAME/snapshots` or `/blobs`."""
    return any(
        repository.startswith("models--") and inside in {"snapshots", "blobs"}
        for repository, inside in pairwise(path.parts)
    )


def sidecars_of(model: Path, going: AbstractSet[str]) -> Iterator[str]:
    """What lies beside a model for it alone, or for it and those that are `going` too."""
    from registry.sidecars import companions

    if model.is_dir():
        return
    try:
        names = frozenset(os.listdir(model.parent))  # noqa: PTH208
    except OSError:
        return
    others = [
        name
        for name in names
        if PurePath(name).suffix.lower() in MODEL_SUFFIXES
        and name != model.name
        and str(model.with_name(name)) not in going
    ]
    shared = {found for other in others for found in companions(other, names)}
    for name in sorted(companions(model.name, names)):
        if name not in shared and PurePath(name).suffix.lower() not in MODEL_SUFFIXES:
            yield str(model.with_name(name))
