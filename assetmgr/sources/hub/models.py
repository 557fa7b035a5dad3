"""Repositories of the Hugging Face Hub: found, and described from their own answers.

Answers are JSON of which nothing is believed by its type. Routes, parameters and fields:
huggingface_hub `hf_api.py` (`list_models`, `model_info`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from assetmgr.sources.bodies import MOST_ANSWER_BYTES
from assetmgr.sources.hub.client import endpoint
from assetmgr.sources.hub.errors import no_hub
from assetmgr.sources.hub.web import ask, check_repo
from assetmgr.sources.web import Web
from converters.errors import FileMissing, NotAvailable
from converters.progress import SILENT, Progress
from registry.document import BadDocument, Fields

LONGEST_CARD = 1 << 20
"""Bytes of a card that are read."""

SORTS = {
    "downloads": "downloads",
    "likes": "likes",
    "trending": "trendingScore",
    "newest": "createdAt",
    "updated": "lastModified",
}
"""Our words for orders -> the Hub's; all descend."""

_PAGE = 100
_MOST_PAGES = 20
"""So many are looked through for what the Hub cannot filter by."""

_EXPANDED = (
    "author",
    "createdAt",
    "downloads",
    "gated",
    "lastModified",
    "library_name",
    "likes",
    "pipeline_tag",
    "private",
    "sha",
    "siblings",
    "tags",
)


@dataclass(frozen=True, slots=True)
class HubQuery:
    """What the Hub is asked for: words in the name, and tags that all have to be there."""

    text: str
    author: str | None = None
    tags: tuple[str, ...] = ()
    sort: str | None = None


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository; `size` in bytes, `sha256` known where it lies in the large storage.

    `git_sha1` is the name git gives to the blob.
    """

    name: str
    size: int | None
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository at a commit, in the Hub's words.

    `gated` is None where access need not be asked for, else `auto` or `manual`. `card` are the
    facts at the top of its page. `files` is None where the answer does not list them.
    """

    repo: str
    commit: str | None
    author: str | None
    gated: str | None
    private: bool
    downloads: int | None
    likes: int | None
    created: str | None
    modified: str | None
    pipeline: str | None
    library: str | None
    tags: tuple[str, ...]
    card: Fields
    files: tuple[HubFile, ...] | None

    @property
    def licence(self) -> str | None:
        """The licence's short name; the card's own name where that is only `other`."""
        told = self.card.text("license") or next(iter(self.card.words("license")), None)
        told = told or next((tag[8:] for tag in self.tags if tag.startswith("license:")), None)
        return (self.card.text("license_name") or told) if told == "other" else told

    @property
    def base_models(self) -> tuple[str, ...]:
        """The repositories it says it was made from."""
        tagged = (tag.rpartition(":")[2] for tag in self.tags if tag.startswith("base_model:"))
        return tuple(dict.fromkeys((*self.card.words("base_model"), *tagged)))

    @property
    def url(self) -> str:
        """Its page."""
        return f"{endpoint()}/{self.repo}"


def search(web: Web, query: HubQuery, progress: Progress = SILENT) -> Iterator[HubModel]:
    """Repositories, best first; pages are fetched as they are needed. Raises NotAvailable."""
    params = [("limit", str(_PAGE)), *(("expand", name) for name in _EXPANDED)]
    params += [("search", query.text)] if query.text else []
    params += [("author", query.author)] if query.author else []
    params += [("filter", tag) for tag in query.tags]
    if query.sort is not None:
        params.append(("sort", SORTS[query.sort]))
    subject, address = "the search", f"{endpoint()}/api/models?{urlencode(params)}"
    for _ in range(_MOST_PAGES):
        try:
            body, following = ask(web, address, subject, MOST_ANSWER_BYTES, progress)
        except FileMissing:  # a mirror such as olah serves repositories and finds none
            hint = "check HF_ENDPOINT: a mirror may know only names of repositories"
            raise NotAvailable("cannot be made at this address", path=subject, hint=hint) from None
        listed = _parsed(subject, b'{"items":' + body + b"}").values.get("items")
        if not isinstance(listed, list):
            raise no_hub(subject)
        yield from _models(subject, listed)
        if following is None:
            return
        address = following


def _models(subject: str, listed: list[object]) -> Iterator[HubModel]:
    for item in listed:
        found = _model_of(Fields(subject, item, [])) if isinstance(item, dict) else None
        if found is not None:
            yield found


def repository(
    web: Web, repo: str, revision: str | None = None, progress: Progress = SILENT
) -> HubModel:
    """A repository with its files at a revision. Raises FileMissing, NotAvailable, BadValue."""
    check_repo(repo)
    # The branch by its name: mirrors need not know which one is meant without.
    chosen = quote(revision or "main", safe="")
    address = f"{endpoint()}/api/models/{repo}/revision/{chosen}?blobs=true"
    body, _ = ask(web, address, repo, MOST_ANSWER_BYTES, progress, repo=repo)
    found = _model_of(_parsed(repo, body))
    if found is None or found.commit is None:
        raise no_hub(repo)
    return found


def card(web: Web, model: HubModel, progress: Progress = SILENT) -> str | None:
    """The text of a repository's page, Markdown; None without one. Raises NotAvailable."""
    address = (
        f"{endpoint()}/{model.repo}/resolve/{quote(model.commit or 'main', safe='')}/README.md"
    )
    try:
        text, _ = ask(web, address, model.repo, LONGEST_CARD, progress, repo=model.repo)
        return text.decode("utf-8", "replace")
    except FileMissing:
        return None


def _parsed(subject: str, body: bytes) -> Fields:
    try:
        return Fields.of(subject, body)
    except BadDocument:
        raise no_hub(subject) from None


def _model_of(fields: Fields) -> HubModel | None:
    """A repository; None for an object that is none."""
    repo = fields.text("id") or fields.text("modelId")
    if repo is None:
        return None
    siblings = fields.values.get("siblings")
    gated = fields.values.get("gated")
    return HubModel(
        repo=repo,
        commit=fields.text("sha"),
        author=fields.text("author") or (repo.partition("/")[0] if "/" in repo else None),
        gated=gated if isinstance(gated, str) else ("auto" if gated is True else None),
        private=fields.flag("private"),
        downloads=_count(fields, "downloads"),
        likes=_count(fields, "likes"),
        created=fields.text("createdAt"),
        modified=fields.text("lastModified"),
        pipeline=fields.text("pipeline_tag"),
        library=fields.text("library_name"),
        tags=fields.words("tags"),
        card=fields.inside("cardData"),
        files=tuple(_files(repo, siblings)) if isinstance(siblings, list) else None,
    )


def _files(repo: str, listed: list[object]) -> Iterator[HubFile]:
    for item in listed:
        found = _file_of(Fields(repo, item, [])) if isinstance(item, dict) else None
        if found is not None:
            yield found


def _file_of(fields: Fields) -> HubFile | None:
    name = fields.text("rfilename")
    if name is None:
        return None
    large = fields.inside("lfs")
    sha256 = (large.text("sha256") or large.text("oid") or "").removeprefix("sha256:").lower()
    size = _count(large, "size")
    return HubFile(
        name=name,
        size=_count(fields, "size") if size is None else size,
        sha256=sha256 if len(sha256) == 64 else None,
        git_sha1=None if sha256 else fields.text("blobId"),
    )


def _count(fields: Fields, name: str) -> int | None:
    number = fields.number(name)
    return None if number is None or number < 0 else int(number)
