"""Is there something newer on Civitai? The versions of models that the library has one of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from assetmgr.operations.civitai.find import base_of
from assetmgr.operations.civitai.lookup import Asker, of_asset
from assetmgr.operations.failures import Failure
from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.civitai.records import CivitaiModel, ModelFile, Version
from assetmgr.sources.patience import Unreachable
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, BadValue, FileMissing
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

SERVICE = "civitai"

CURRENT, NEWER, GONE = "current", "newer", "gone"


@dataclass(frozen=True, slots=True)
class NewerVersion:
    """A version that came later; `same_base` is whether it is for the family of ours.

    `asset` is the number of the asset that is its primary file already.
    """

    version: Version
    same_base: bool
    asset: int | None

    @property
    def file(self) -> ModelFile | None:
        """The primary file."""
        return _primary(self.version)

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        version, file = self.version, self.file
        return {
            "version": version.id,
            "name": version.name,
            "base": base_of(version),
            "base_model": version.base,
            "same_base": self.same_base,
            "published": version.published,
            "trained_words": list(version.trained_words),
            "file": file.name if file else None,
            "bytes": file.size if file else None,
            "asset": self.asset,
        }


@dataclass(frozen=True, slots=True)
class CivitaiUpdate:
    """An asset that is a version of a model, and the versions that came later, newest first.

    `state` is `current`, `newer`, or `gone` for a model or version that the site shows no more.
    """

    asset: Asset
    model_id: str
    version_id: str
    model: CivitaiModel | None
    state: str
    newer: tuple[NewerVersion, ...]

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        return {
            "asset": self.asset.id,
            "name": self.asset.name,
            "model": self.model_id,
            "model_name": self.model.name if self.model else None,
            "version": self.version_id,
            "state": self.state,
            "newer": [one.to_json() for one in self.newer],
        }


class _Origin(NamedTuple):
    """The version that an asset is."""

    asset: int
    model: str
    version: str


def updates(
    workspace: Workspace, references: Sequence[str] = (), progress: Progress = SILENT
) -> Iterator[CivitaiUpdate | Failure]:
    """Ask for each model once; without references for all that are known to come from Civitai.

    An asset that is named and not known to come from there is looked up by its hashes. A model that
    cannot be asked for is a Failure. Raises NotAvailable when the site cannot be reached at all.
    """
    with civitai.connect() as web:
        by_model: defaultdict[str, list[_Origin]] = defaultdict(list)
        for item in _wanted(workspace, web, references, progress):
            if isinstance(item, Failure):
                yield item
            else:
                by_model[item.model].append(item)
        progress.stage("asking Civitai", len(by_model), "models")
        for number, origins in by_model.items():
            try:
                model = _model(web, number, progress)
            except Unreachable:
                raise
            except AssetmgrError as error:
                yield Failure.of(error)
                continue
            for origin in origins:
                yield _compared(workspace, origin, model)
            progress.advance()


def _wanted(
    workspace: Workspace, web: Web, references: Sequence[str], progress: Progress
) -> Iterator[_Origin | Failure]:
    known = _known(workspace)
    if not references:
        yield from known
        return
    asker = Asker(web, progress)
    for reference in references:
        try:
            asset = workspace.library.find(reference)
        except AssetmgrError as error:
            yield Failure.of(error, reference)
            continue
        own = [origin for origin in known if origin.asset == asset.id]
        yield from own
        if not own:
            yield _looked_up(asker, asset, reference)


def _known(workspace: Workspace) -> tuple[_Origin, ...]:
    """What was downloaded from there, and what files beside models say."""
    library = workspace.library
    found = [
        _Origin(asset, source.repo, source.revision)
        for asset, source in library.sources(SERVICE)
        if source.repo and source.revision
    ]
    found += [
        _Origin(asset, told.model_id, told.version_id)
        for asset, told in library.told_origins(SERVICE)
        if told.model_id and told.version_id
    ]
    usable = (one for one in found if one.model.isdecimal() and one.version.isdecimal())
    return tuple(dict.fromkeys(usable))


def _looked_up(asker: Asker, asset: Asset, reference: str) -> _Origin | Failure:
    match = asker.ask(of_asset(asset))
    if match is None or match.version.model_id is None:
        return Failure.of(BadValue("is not known to Civitai", path=reference))
    return _Origin(asset.id, match.version.model_id, match.version.id)


def _model(web: Web, number: str, progress: Progress) -> CivitaiModel | None:
    try:
        return civitai.model(web, number, progress, fresh=True)
    except FileMissing:
        return None


def _compared(workspace: Workspace, origin: _Origin, model: CivitaiModel | None) -> CivitaiUpdate:
    asset = workspace.library.get(origin.asset)
    versions = model.versions if model else ()
    own = next((one for one in versions if one.id == origin.version), None)
    if own is None:
        return CivitaiUpdate(asset, origin.model, origin.version, model, GONE, ())
    later = (
        NewerVersion(one, one.base == own.base, _asset_of(workspace, one))
        for one in sorted(versions, key=_moment, reverse=True)
        if _moment(one) > _moment(own)
    )
    newer = tuple(one for one in later if one.asset != asset.id)  # versions may share a file
    state = NEWER if newer else CURRENT
    return CivitaiUpdate(asset, origin.model, origin.version, model, state, newer)


def _moment(version: Version) -> tuple[str, int]:
    """When it was published (ISO 8601, always in UTC); numbers only grow."""
    return version.published or "", int(version.id)


def _primary(version: Version) -> ModelFile | None:
    chosen = (file for file in version.files if file.primary)
    return next(chosen, version.files[0] if version.files else None)


def _asset_of(workspace: Workspace, version: Version) -> int | None:
    """The asset that is one of its files."""
    digests = (file.hashes.get("sha256") for file in version.files)
    found = (workspace.library.find_hash(digest) for digest in digests if digest)
    return next((number for number in found if number is not None), None)
