"""What another program's folder should show of each asset: where it belongs, or why it cannot.

Asked are the library, the program's layout and the file itself; what lies in the folder already is
the concern of the plan.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from assetmgr.operations.layouts import Layout
from assetmgr.operations.names import safe_name
from assetmgr.operations.views.manifest import Manifest

if TYPE_CHECKING:
    from registry.records import Asset


@dataclass(frozen=True, slots=True)
class Skipped:
    """What is not linked or not removed, and why."""

    asset: int
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wish:
    """A file that should be seen in a folder, under this name if it is free."""

    asset: int
    source: Path
    folder: str
    name: str
    picture: Path | None


class Wishing:
    """Makes the wishes for one folder, in which the links of `manifest` are ours."""

    def __init__(
        self, layout: Layout, directory: Path, manifest: Manifest, *, with_pictures: bool
    ) -> None:
        self._layout, self._directory, self._with_pictures = layout, directory, with_pictures
        self._prefix = PurePosixPath(layout.prefix(directory))
        self._ours = {
            _named(directory.joinpath(*path.split("/")))
            for entry in manifest.entries.values()
            if entry.is_ours(directory)
            for path in (entry.item, entry.path)
        }

    def of(self, asset: Asset) -> Wish | Skipped | None:
        """Where an asset belongs, or why it cannot be shown; None for one that is not there."""
        if asset.path is None:
            return None
        source = self._source(asset)
        if source is None:
            reason = "its file is not there any more; scan its folder"
            return Skipped(asset.id, asset.path, reason)
        is_pipeline = source.is_dir()
        folder = self._layout.folder(
            asset.kind, asset.base, is_pipeline=is_pipeline, variant=asset.variant
        )
        if folder is None:
            what = "diffusers folders" if is_pipeline else f"files of kind {asset.kind}"
            return Skipped(asset.id, str(source), f"{self._layout.title} does not use {what}")
        if not is_pipeline and not self._layout.reads(asset.kind, source.name):
            reason = f"{self._layout.title} reads no {source.suffix} files of kind {asset.kind}"
            return Skipped(asset.id, str(source), reason)
        below = str(self._prefix / folder)
        if self._lies_there(asset, below):
            return Skipped(asset.id, str(source), "lies in that folder already")
        picture = None if is_pipeline else self._picture(asset)
        return Wish(asset.id, source, below, safe_name(source.name), picture)

    def _places(self, asset: Asset) -> Iterator[Path]:
        """Where the asset itself lies: links of ours that a scan has met are not its files."""
        for file in asset.files:
            path = Path(file.path)
            if file.here and file.state == "present" and not self._is_our_link(path):
                yield path

    def _is_our_link(self, path: Path) -> bool:
        return _named(path) in self._ours

    def _source(self, asset: Asset) -> Path | None:
        """The file that is linked: rather one that is no link itself."""
        there = [path for path in self._places(asset) if os.path.exists(path)]  # noqa: PTH110
        return min(there, key=lambda path: path.is_symlink(), default=None)

    def _lies_there(self, asset: Asset, folder: str) -> bool:
        from registry.scanning.places import within

        real = os.path.realpath(self._directory / folder)
        return any(within(str(path), real) for path in self._places(asset))

    def _picture(self, asset: Asset) -> Path | None:
        """The picture of an asset that a render has verified, where pictures are asked for."""
        preview = asset.preview if self._with_pictures else None
        if preview is None or preview.path is None or preview.verdict != "ok":
            return None
        picture = Path(preview.path)
        return picture if picture.suffix.lower() == ".png" and picture.is_file() else None


def _named(path: Path) -> str:
    """A place by the real name of its folder, as the library names it."""
    return os.path.normcase(Path(os.path.realpath(path.parent), path.name))
