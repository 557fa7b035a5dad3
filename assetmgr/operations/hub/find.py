"""Find repositories on the Hugging Face Hub and say what the library has of them already."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from assetmgr.operations.downloads.known import all_with_sha256
from assetmgr.sources.hub import cards as hub_cards
from assetmgr.sources.hub import models as hub_models
from assetmgr.sources.hub import tags as hub_tags
from assetmgr.sources.hub.models import HubFile, HubModel, HubQuery
from assetmgr.sources.hub.web import connect
from assetmgr.sources.web import Web
from converters.errors import BadValue, NotAvailable
from converters.progress import SILENT, Progress
from registry.text import storable

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset

SERVICE = "huggingface"
"""What the library calls the Hub."""


@dataclass(frozen=True, slots=True)
class HubSearch:
    """What to look for, in the words of the contract; `licence` is the Hub's short name of one."""

    text: str = ""
    kind: str | None = None
    base: str | None = None
    author: str | None = None
    licence: str | None = None
    sort: str | None = None
    limit: int = 20
    offset: int = 0


@dataclass(frozen=True, slots=True)
class HubFound:
    """A repository, and its kind and base as far as its tags and the names of its files tell.

    `assets` are the numbers of what the library got from it.
    """

    model: HubModel
    kind: str
    base: str
    assets: tuple[int, ...]

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        model = self.model
        return {
            "repo": model.repo,
            "author": model.author,
            "revision": model.commit,
            "kind": self.kind,
            "base": self.base,
            "base_models": list(model.base_models),
            "licence": model.licence,
            "gated": model.gated,
            "private": model.private,
            "downloads": model.downloads,
            "likes": model.likes,
            "created": model.created,
            "modified": model.modified,
            "pipeline": model.pipeline,
            "library": model.library,
            "tags": list(model.tags),
            "url": model.url,
            "assets": list(self.assets),
        }


@dataclass(frozen=True, slots=True)
class HubInfoFile:
    """A file of a repository, and the asset that already is it and is there."""

    file: HubFile
    known: Asset | None

    def to_json(self) -> dict[str, object]:
        """The entry of the document."""
        return {
            "name": self.file.name,
            "bytes": self.file.size,
            "sha256": self.file.sha256,
            "asset": self.known.id if self.known else None,
        }


@dataclass(frozen=True, slots=True)
class HubInfo:
    """A repository at a commit; `summary` is the beginning of its page as plain text.

    `trigger_words` are what its page says calls the model up.
    """

    found: HubFound
    summary: str | None
    trigger_words: tuple[str, ...]
    files: tuple[HubInfoFile, ...]

    @property
    def nbytes(self) -> int | None:
        """Bytes of all files together; None where a mirror does not tell of each."""
        sizes = [one.file.size for one in self.files]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None

    def to_json(self) -> dict[str, object]:
        """The document, without its errors."""
        return {
            **self.found.to_json(),
            "summary": self.summary,
            "trigger_words": list(self.trigger_words),
            "bytes": self.nbytes,
            "files": [one.to_json() for one in self.files],
        }


def search_page(
    workspace: Workspace, wanted: HubSearch, progress: Progress = SILENT
) -> tuple[list[HubFound], int | None]:
    """What `search` finds, and the `offset` with which it goes on behind that; None at the end."""
    one_more = replace(wanted, limit=wanted.limit + 1)
    found = list(search(workspace, one_more, progress))
    following = wanted.offset + wanted.limit if len(found) > wanted.limit else None
    return found[: wanted.limit], following


def search(
    workspace: Workspace, wanted: HubSearch, progress: Progress = SILENT
) -> Iterator[HubFound]:
    """Repositories, best first, at most `limit` behind the first `offset`.

    The Hub is asked by tags; results that these contradict are left out, those of which kind or
    base is not told stay, as `unknown`. Raises BadValue, NotAvailable.
    """
    for text in (wanted.text, wanted.author, wanted.licence):
        if text is not None and not storable(text):
            raise BadValue("cannot be asked for", path=text)
    tags = hub_tags.tags_for(wanted.kind, wanted.base, wanted.licence)
    query = HubQuery(wanted.text, wanted.author, tags, wanted.sort)
    had = _had(workspace)
    with connect("the search") as web:
        fitting = (
            _judged(model, had)
            for model in hub_models.search(web, query, progress)
            if hub_tags.may_be(model, wanted.kind, wanted.base)
        )
        yield from itertools.islice(fitting, wanted.offset, wanted.offset + wanted.limit)


def info(
    workspace: Workspace, repo: str, revision: str | None = None, progress: Progress = SILENT
) -> HubInfo:
    """What a repository holds, and what of it the library has. Raises FileMissing, NotAvailable."""
    with connect(repo) as web:
        model = hub_models.repository(web, repo, revision, progress)
        text = _card(web, model, progress)
    words = model.card.words("instance_prompt")
    listed = model.files or ()
    known = all_with_sha256(workspace, [file.sha256 for file in listed if file.sha256])
    files = (HubInfoFile(file, known.get(file.sha256 or "")) for file in listed)
    return HubInfo(_judged(model, _had(workspace)), hub_cards.summary(text), words, tuple(files))


def _card(web: Web, model: HubModel, progress: Progress) -> str | None:
    """The page's text; None without one, and where it cannot be had: all else is known already."""
    if not any(file.name == "README.md" for file in model.files or ()):
        return None
    try:
        return hub_models.card(web, model, progress)
    except NotAvailable:
        return None


def _had(workspace: Workspace) -> Mapping[str, tuple[int, ...]]:
    """Repository -> the assets that came from it."""
    had: defaultdict[str, tuple[int, ...]] = defaultdict(tuple)
    for asset, source in workspace.library.sources(SERVICE):
        had[source.repo or ""] += (asset,)
    return had


def _judged(model: HubModel, had: Mapping[str, tuple[int, ...]]) -> HubFound:
    kind, base = hub_tags.kind_of(model), hub_tags.base_of(model)
    return HubFound(model, kind, base, had.get(model.repo, ()))
