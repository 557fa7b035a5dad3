"""What Civitai says of local models, kept beside them: names, trigger words, licence, a picture.

Tags, notes and ratings are the user's and stay as they are; so does every file that is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.operations.beside import files_of, path_beside, record_beside
from assetmgr.operations.civitai.document import (
    INFO,
    added_to,
    licence_words,
    picture_of,
    site_document,
)
from assetmgr.operations.civitai.lookup import Asker, Lookup, Match, Subject, find, of_asset
from assetmgr.operations.failures import Failure
from assetmgr.operations.sidecar import PICTURE_ENDING
from assetmgr.sources import preview_pictures
from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.civitai.records import CivitaiModel, Version
from assetmgr.sources.web import Web
from converters.errors import (
    AssetmgrError,
    CorruptFile,
    FileMissing,
    NotAvailable,
    WriteProblem,
)
from converters.progress import SILENT, Progress
from converters.writers.atomic import write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, File

WRITTEN, KEPT = "written", "kept"
_CONVERT = "convert"
_MOST_GENERATIONS = 32


@dataclass(frozen=True, slots=True)
class EnrichRequest:
    """Which assets; `overwrite` adds the site's answer to a file of that name that is there.

    `nsfw` allows pictures that the site calls adult.
    """

    references: tuple[str, ...]
    pictures: bool = True
    nsfw: bool = False
    overwrite: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Beside:
    """A file beside a model: `written`, `kept` as it was, or None for what would be written."""

    path: Path
    state: str | None


@dataclass(frozen=True, slots=True)
class Enriched:
    """An asset, what the site knows of it, and the files; `match` is None where it knows nothing.

    `problems` are what could not be had without being a failure, such as a picture.
    """

    asset: Asset
    match: Match | None
    model: CivitaiModel | None
    files: tuple[Beside, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        return {
            "asset": self.asset.id,
            "name": self.asset.name,
            "match": self.match.to_json() if self.match else None,
            "files": [{"path": str(one.path), "state": one.state} for one in self.files],
            "problems": list(self.problems),
        }


def enrich(
    workspace: Workspace, request: EnrichRequest, progress: Progress = SILENT
) -> Iterator[Enriched | Failure]:
    """Look assets up and keep what the site says; one that fails does not stop the others.

    Raises NotAvailable, Cancelled.
    """
    assets: list[Asset | Failure] = [_asset(workspace, text) for text in request.references]
    with civitai.connect() as web:
        asker = Asker(web, progress)
        asker.ask_together([of_asset(asset) for asset in assets if not isinstance(asset, Failure)])
        progress.stage("asking Civitai", len(assets), "assets")
        for asset in assets:
            if isinstance(asset, Failure):
                yield asset
                continue
            try:
                found = find(workspace, asker, of_asset(asset))
                yield _One(workspace, web, request, progress).enriched(asset, found)
            except WriteProblem as error:
                yield Failure.of(error, asset.name)
            progress.advance()


def matching(workspace: Workspace, query: str) -> tuple[str, ...]:
    """References of the assets that a query finds. Raises BadValue."""
    return tuple(f"#{row.id}" for row in workspace.library.search(query).rows)


def _asset(workspace: Workspace, reference: str) -> Asset | Failure:
    try:
        asset = workspace.library.find(reference)
        files_of(asset)
    except AssetmgrError as error:
        return Failure.of(error, reference)
    return asset


@dataclass(frozen=True, slots=True)
class _One:
    """The surroundings of one asset's turn."""

    workspace: Workspace
    web: Web
    request: EnrichRequest
    progress: Progress

    def enriched(self, asset: Asset, found: Lookup) -> Enriched:
        """What came of it. Raises NotAvailable, WriteProblem, Cancelled."""
        match = _usable(self.workspace, asset, found)
        if match is None:
            told = ("is made of what the site knows, and is not that itself",)
            return Enriched(asset, None, None, (), told if found.matches else ())
        model = self._model(match.version)
        is_own = match.ancestor is None
        document = site_document(self.web, match.version, model, is_own=is_own)
        files = [self._info(asset, file, document) for file in files_of(asset)]
        problems: list[str] = []
        if self.request.pictures:
            files += self._pictures(asset, match.version, problems)
        if is_own and not self.request.dry_run:
            self._record_source(asset, match, licence_words(model))
        fresh = self.workspace.library.get(asset.id)
        return Enriched(fresh, match, model, tuple(files), tuple(problems))

    def _model(self, version: Version) -> CivitaiModel | None:
        """None for a model that is hidden, as its versions need not be."""
        if version.model_id is None:
            return None
        try:
            return civitai.model(self.web, version.model_id, self.progress)
        except FileMissing:
            return None

    def _info(self, asset: Asset, file: File, document: bytes) -> Beside:
        path = path_beside(file.path, INFO)
        is_there = os.path.lexists(path)
        if is_there and not self.request.overwrite:
            return Beside(path, KEPT)
        content = added_to(path.read_bytes(), document) if path.is_file() else document
        return self._written(asset, file, path, content)

    def _pictures(self, asset: Asset, version: Version, problems: list[str]) -> list[Beside]:
        """A picture for each file that has none; the site is asked only where one is missing."""
        bare = [file for file in files_of(asset) if not _has_picture(file)]
        address = picture_of(version, nsfw=self.request.nsfw) if bare else None
        if address is None or self.request.dry_run:
            places = (path_beside(file.path, PICTURE_ENDING) for file in bare if address)
            return [Beside(path, None) for path in places]
        try:
            content = preview_pictures.fetch(self.web, address, asset.name, self.progress)
        except (NotAvailable, CorruptFile) as error:
            problems.append(error.cause)
            return []
        return [
            self._written(asset, file, path_beside(file.path, PICTURE_ENDING), content)
            for file in bare
        ]

    def _written(self, asset: Asset, file: File, path: Path, content: bytes) -> Beside:
        if self.request.dry_run:
            return Beside(path, None)
        write_whole(path, content, overwrite=self.request.overwrite)
        record_beside(self.workspace, asset.id, file.path, path)
        return Beside(path, WRITTEN)

    def _record_source(self, asset: Asset, match: Match, licence: str | None) -> None:
        from registry.records import Source

        version, sha256 = match.version, asset.hashes["sha256"]
        file = next((one for one in version.files if one.hashes.get("sha256") == sha256), None)
        name, number = (file.name, file.id) if file else (None, None)
        url = civitai.address(self.web, version.id, number)
        source = Source("civitai", version.model_id, version.id, name, url, licence)
        self.workspace.library.record_source(asset.id, source)


def _has_picture(file: File) -> bool:
    from registry.sidecars.picture import FORMATS

    endings = (f"{middle}.{suffix}" for middle in ("", ".preview") for suffix in FORMATS)
    return any(os.path.lexists(path_beside(file.path, ending)) for ending in endings)


def _usable(workspace: Workspace, asset: Asset, found: Lookup) -> Match | None:
    """The version that an asset is, or that it was only converted from."""
    for match in found.matches:
        if match.ancestor is None or _is_conversion(workspace, asset, match.ancestor):
            return match
    return None


def _is_conversion(workspace: Workspace, asset: Asset, ancestor: Subject) -> bool:
    """Whether nothing but conversions lies between an asset and its ancestor."""
    for _ in range(_MOST_GENERATIONS):
        if len(asset.derived_from) != 1 or asset.derived_from[0].operation != _CONVERT:
            return False
        (step,) = asset.derived_from
        if step.parent_sha256 is not None and step.parent_sha256 == ancestor.hashes.get("sha256"):
            return True
        if step.asset is None:
            return False
        asset = workspace.library.get(step.asset)
    return False
