"""Find models on Civitai and say what the library has of them already."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from assetmgr.sources.civitai import site as civitai
from assetmgr.sources.civitai.records import CivitaiModel, Licence, ModelFile, Version
from assetmgr.sources.civitai.site import Search
from assetmgr.sources.civitai.words import BASES, TYPES
from assetmgr.sources.web import Web
from converters.errors import BadValue, FileMissing
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

HASHES = ("sha256", "blake3", "crc32", "autov1", "autov2", "autov3")

_PAIR = re.compile(r"(?:urn:air:[^@]*:civitai:)?(\d{1,18})?@(\d{1,18})(?:\+\d+)?")
_PAGE = re.compile(r"(?:https?://)?([\w.:-]+)/models/(\d{1,18})(?:/[^?#]*)?(?:[?#](.*))?")
_OF_PAGE = re.compile(r"\bmodelVersionId=(\d{1,18})")
_ROUTE = re.compile(r"(?:https?://)?([\w.:-]+)/api/download/models/(\d{1,18})(?:[?#].*)?")
_KIND_OF_TYPE = {word: kind for kind, words in TYPES.items() for word in words}
_BASE_OF_TEXT = {text: base for base, texts in BASES.items() for text in texts}


@dataclass(frozen=True, slots=True)
class Reference:
    """What a user means on Civitai; a bare number is `number`, of a model or of a version."""

    model: str | None = None
    version: str | None = None
    number: str | None = None


def parse_reference(text: str) -> Reference:
    """NUMBER, [MODEL]@VERSION, an AIR, or the address of a page or a download. Raises BadValue.

    AIR: `urn:air:ECOSYSTEM:TYPE:civitai:MODEL@VERSION`, as the site shows it. Of an address only
    the numbers are used: requests go to no other place than the one that is set.
    """
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return Reference(number=text)
    if pair := _PAIR.fullmatch(text):
        return Reference(model=pair[1], version=pair[2])
    if (route := _ROUTE.fullmatch(text)) and _is_civitai(route[1]):
        return Reference(version=route[2])
    if (page := _PAGE.fullmatch(text)) and _is_civitai(page[1]):
        chosen = _OF_PAGE.search(page[3] or "")
        return Reference(model=page[2], version=chosen[1] if chosen else None)
    raise BadValue(
        "is neither a number nor an address of a model on Civitai",
        path=text,
        hint="such as 4384, 4384@128713, or the address of its page",
    )


def _is_civitai(host: str) -> bool:
    """Whether numbers of an address mean there what they mean here: its domains, or what is set."""
    name = host.partition(":")[0]
    return name.split(".")[-2:-1] == ["civitai"] or name == urlsplit(civitai.endpoint()).hostname


def search(
    workspace: Workspace, wanted: Search, progress: Progress = SILENT
) -> Iterator[dict[str, object]]:
    """The documents of models that are found. Raises NotAvailable."""
    with civitai.connect() as web:
        for found in civitai.search(web, wanted, progress):
            yield model_json(workspace, web, found)


def search_page(
    workspace: Workspace, wanted: Search, progress: Progress = SILENT
) -> tuple[list[dict[str, object]], str | None]:
    """The documents, and the cursor with which a search goes on behind them; None at the end."""
    found: list[dict[str, object]] = []
    cursor: str | None = None
    with civitai.connect() as web:
        for page in civitai.pages(web, wanted, progress):
            found += [model_json(workspace, web, model) for model in page.models]
            cursor = page.cursor
    return found, cursor


def info(workspace: Workspace, text: str, progress: Progress = SILENT) -> dict[str, object]:
    """The document of a model; of a version, that of its model with it alone.

    A bare number is that of a model, or else of a version. Raises BadValue, FileMissing,
    NotAvailable.
    """
    reference = parse_reference(text)
    with civitai.connect() as web:
        return model_json(workspace, web, _find(web, reference, progress))


def _find(web: Web, reference: Reference, progress: Progress) -> CivitaiModel:
    if reference.version is not None:
        return _of_version(web, reference.version, progress)
    number = reference.model or reference.number or ""
    try:
        return civitai.model(web, number, progress)
    except FileMissing:
        if reference.model is not None:
            raise
    return _of_version(web, number, progress)


def _of_version(web: Web, number: str, progress: Progress) -> CivitaiModel:
    """A version inside of its model, which alone knows licence and creator."""
    version = civitai.version(web, number, progress)
    if version.model_id is not None:
        try:
            return civitai.model(web, version.model_id, progress).only(version)
        except FileMissing:
            pass  # models can be hidden while their versions are not
    unknown = Licence(None, None, None, None)
    name = version.model_name or version.label
    return CivitaiModel(
        id=version.model_id or "",
        name=name,
        type=version.model_type,
        creator=None,
        nsfw=False,
        tags=(),
        description=None,
        downloads=None,
        licence=unknown,
        versions=(version,),
    )


def model_json(workspace: Workspace, web: Web, found: CivitaiModel) -> dict[str, object]:
    """A model as a document."""
    return {
        "id": found.id or None,
        "name": found.name,
        "type": found.type,
        "kind": _KIND_OF_TYPE.get(found.type or ""),
        "creator": found.creator,
        "nsfw": found.nsfw,
        "tags": list(found.tags),
        "description": found.description,
        "downloads": found.downloads,
        "licence": asdict(found.licence),
        "url": f"{web.endpoint}/models/{found.id}" if found.id else None,
        "versions": [_version_json(workspace, version) for version in found.versions],
    }


def _version_json(workspace: Workspace, version: Version) -> dict[str, object]:
    return {
        "id": version.id,
        "name": version.name,
        "base": base_of(version),
        "base_model": version.base,
        "published": version.published,
        "availability": version.availability,
        "trained_words": list(version.trained_words),
        "description": version.description,
        "air": version.air,
        "files": [_file_json(workspace, file) for file in version.files],
    }


def _file_json(workspace: Workspace, file: ModelFile) -> dict[str, object]:
    return {
        "id": file.id,
        "name": file.name,
        "type": file.content,
        "bytes": file.size,
        "format": file.format,
        "precision": file.precision,
        "pruned": file.pruned,
        "primary": file.primary,
        "hashes": {name: file.hashes.get(name) for name in HASHES},
        "scans": dict(file.scans),
        "asset": _asset_with(workspace, file.hashes.get("sha256")),
    }


def base_of(version: Version) -> str:
    """The family in our words, as far as the site's text tells."""
    return _BASE_OF_TEXT.get(version.base or "", "unknown")


def _asset_with(workspace: Workspace, sha256: str | None) -> int | None:
    return None if sha256 is None else workspace.library.find_hash(sha256)
