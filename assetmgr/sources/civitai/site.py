"""Civitai's models, versions and files, over its REST interface.

`CIVITAI_ENDPOINT` and `CIVITAI_TOKEN` (or `CIVITAI_API_KEY`, `CIVITAI_API_TOKEN`) are honoured.
Routes: the site's own code, `civitai/civitai` `src/pages/api/v1/**`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from assetmgr.paths import find_paths
from assetmgr.sources.answer_cache import Question, ask
from assetmgr.sources.civitai.records import (
    CivitaiModel,
    ModelFile,
    Version,
    model_of,
    version_of,
)
from assetmgr.sources.civitai.words import BASES, PERIODS, SORTS, TYPES
from assetmgr.sources.origins import home_of
from assetmgr.sources.patience import Pace
from assetmgr.sources.tokens import find_token
from assetmgr.sources.transfers.bandwidth import Bandwidth
from assetmgr.sources.transfers.sink import Arrived
from assetmgr.sources.transfers.transfer import Transfer
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, FileMissing, NotAvailable
from converters.progress import SILENT, Progress
from registry.document import BadDocument, Fields, clean

HOME = "https://civitai.com"
SETTING = "CIVITAI_ENDPOINT"
TOKENS = ("CIVITAI_TOKEN", "CIVITAI_API_KEY", "CIVITAI_API_TOKEN")

MOST_HASHES = 100
"""So many SHA-256 can be asked for at once."""

_PAGE = 50
_LONGEST_CAUSE = 200

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_SEARCH_AGE, _MODEL_AGE, _HASH_AGE, _UNKNOWN_AGE = 5 * _MINUTE, _HOUR, _DAY, _HOUR
"""Seconds for which an answer is believed; what the site does not know may be there soon."""

_BURST, _PER_SECOND = 30, 2.0
"""The site's own limit for lists is 120 requests in a minute."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for, in the words of the contract; `base` may also be the site's own text.

    `nsfw` None leaves it to the site. `cursor` is where an earlier search ended.
    """

    text: str
    kind: str | None = None
    base: str | None = None
    sort: str | None = None
    limit: int = 20
    period: str | None = None
    tag: str | None = None
    creator: str | None = None
    nsfw: bool | None = None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Models, and the cursor of those that follow; None at the end."""

    models: tuple[CivitaiModel, ...]
    cursor: str | None


def endpoint(environment: Mapping[str, str] = os.environ) -> str:
    """The address of the site. Raises NotAvailable, BadValue."""
    return home_of(environment.get(SETTING) or HOME, SETTING)


def connect(environment: Mapping[str, str] = os.environ) -> Web:
    """The service that the environment describes. Raises BadValue for what cannot be a token."""
    home = endpoint(environment)
    found, cache = find_token(TOKENS, home, environment), find_paths(environment).cache / "civitai"
    pace = Pace(_BURST, _PER_SECOND)
    return Web("Civitai", home, found.secret if found else None, SETTING, cache, pace)


def whose(secret: str, progress: Progress = SILENT) -> str | None:
    """The name of the user a token is of. Raises NotAvailable for one that is refused."""
    subject = "the token"
    with (
        Web("Civitai", endpoint(), secret, SETTING) as web,
        web.open("/api/v1/me", subject, progress=progress) as answer,
    ):
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise NotAvailable("is not accepted by Civitai", path=subject)
        body = web.read(answer, subject)
        return _parsed(web, answer.status_code, body, subject).text("username")


def search(web: Web, wanted: Search, progress: Progress = SILENT) -> Iterator[CivitaiModel]:
    """Models, best first, at most `limit`. Raises NotAvailable."""
    for page in pages(web, wanted, progress):
        yield from page.models


def pages(web: Web, wanted: Search, progress: Progress = SILENT) -> Iterator[Page]:
    """The same in the site's pages, for who wants to go on another time. Raises NotAvailable."""
    fixed, cursor, left = _asked(wanted), wanted.cursor, wanted.limit
    while left > 0:
        # Pages by number are refused together with a query.
        more = (("cursor", cursor),) if cursor is not None else ()
        params = (*fixed, ("limit", str(min(left, _PAGE))), *more)
        fields = _get(web, Question("/api/v1/models", "the search", params), progress, _SEARCH_AGE)
        found = [model for item in fields.objects("items") if (model := model_of(item))][:left]
        following = fields.inside("metadata").label("nextCursor")
        is_end = not found or following == cursor
        cursor = None if is_end else following
        yield Page(tuple(found), cursor)
        left -= len(found)
        if cursor is None:
            return


def _asked(wanted: Search) -> tuple[tuple[str, str], ...]:
    """The parameters of a search that are the same for every page."""
    texts = {"query": wanted.text, "tag": wanted.tag, "username": wanted.creator}
    params = [(name, text) for name, text in texts.items() if text]
    params += [("types", word) for word in TYPES.get(wanted.kind or "", ())]
    if wanted.base is not None:
        params += [("baseModels", text) for text in BASES.get(wanted.base, (wanted.base,))]
    if wanted.sort is not None:
        params.append(("sort", SORTS[wanted.sort]))
    if wanted.period is not None:
        params.append(("period", PERIODS[wanted.period]))
    if wanted.nsfw is not None:
        params.append(("nsfw", str(wanted.nsfw).lower()))
    return tuple(params)


def model(
    web: Web, number: str, progress: Progress = SILENT, *, fresh: bool = False
) -> CivitaiModel:
    """One model with its versions; `fresh` asks in any case. Raises FileMissing, NotAvailable."""
    question = Question(f"/api/v1/models/{number}", f"civitai model {number}")
    found = model_of(_get(web, question, progress, 0.0 if fresh else _MODEL_AGE))
    if found is None:
        raise web.unfit(question.subject)
    return found


def version(web: Web, number: str, progress: Progress = SILENT, *, fresh: bool = False) -> Version:
    """One version; `fresh` asks in any case. Raises FileMissing, NotAvailable."""
    question = Question(f"/api/v1/model-versions/{number}", f"civitai version {number}")
    found = version_of(_get(web, question, progress, 0.0 if fresh else _MODEL_AGE))
    if found is None:
        raise web.unfit(question.subject)
    return found


def by_hash(web: Web, digest: str, progress: Progress = SILENT) -> Version | None:
    """The oldest version with a file of this hash, of whatever sort; None without one."""
    question = Question(f"/api/v1/model-versions/by-hash/{digest}", f"hash {digest}")
    try:
        return version_of(_get(web, question, progress, _HASH_AGE))
    except FileMissing:
        return None


def by_sha256(web: Web, digests: Sequence[str], progress: Progress = SILENT) -> list[Version]:
    """The versions with files of these hashes, in few requests. Raises NotAvailable."""
    found: list[Version] = []
    for start in range(0, len(digests), MOST_HASHES):
        wanted = tuple(digest.upper() for digest in digests[start : start + MOST_HASHES])
        question = Question("/api/v1/model-versions/by-hash", "the look-up", json=wanted)
        listed = _get(web, question, progress, _HASH_AGE).objects("items")
        found += [known for item in listed if (known := version_of(item))]
    return found


def address(web: Web, version_id: str, file_id: str | None) -> str:
    """Where a file is downloaded from; without a file the primary one of the version."""
    chosen = "" if file_id is None else f"?fileId={file_id}"
    return f"{web.endpoint}/api/download/models/{version_id}{chosen}"


def fetch(
    web: Web,
    version_id: str,
    file: ModelFile,
    part: Path,
    progress: Progress = SILENT,
    limit: Bandwidth | None = None,
) -> Arrived:
    """Download a file to `part`, going on behind what an earlier call left there.

    Raises NotAvailable, FileMissing, DiskFull, WriteFailed, or Cancelled from `progress`.
    """
    where = address(web, version_id, file.id).removeprefix(web.endpoint)
    transfer = Transfer(web, where, file.name, part, file.size, refusal, limit=limit or Bandwidth())
    return transfer.run(progress)


def refusal(web: Web, status: int, body: bytes, subject: str) -> AssetmgrError:
    """The error of an answer that is no success, with what the site says of it."""
    said = _said(web, body)
    hint = (
        f"log in with `assetmgr login civitai`, or set {TOKENS[0]}"
        if web.token is None
        else "your account may need access, or the token is wrong"
    )
    if status == HTTPStatus.UNAUTHORIZED:
        return NotAvailable(f"needs a login{said}", path=subject, hint=hint)
    if status == HTTPStatus.FORBIDDEN:
        return NotAvailable(f"Civitai refuses access{said}", path=subject, hint=hint)
    if status == HTTPStatus.NOT_FOUND:
        return FileMissing(f"Civitai has no such thing{said}", path=subject)
    if status == HTTPStatus.GONE:
        return FileMissing(f"was archived by Civitai{said}", path=subject)
    is_message = status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}
    what = "a message instead of the file" if is_message else f"status {status}"
    cause = f"Civitai answers with {what}{said}"
    return NotAvailable(cause, path=subject, hint="try again later")


def _get(web: Web, question: Question, progress: Progress, age: float) -> Fields:
    """The object in an answer of at most this age; a list becomes the `items` of one."""
    answer = ask(web, question, age, min(age, _UNKNOWN_AGE), progress)
    return _parsed(web, answer.status, answer.body, question.subject)


def _parsed(web: Web, status: int, body: bytes, subject: str) -> Fields:
    if status != HTTPStatus.OK:
        raise refusal(web, status, body, subject)
    if body.lstrip()[:1] == b"[":
        body = b'{"items":' + body + b"}"
    try:
        return Fields.of(subject, body)
    except BadDocument:
        raise web.unfit(subject) from None


def _said(web: Web, body: bytes) -> str:
    """The site's own words for an error, short, and without the token if it should echo that."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    told = document if isinstance(document, dict) else {}
    texts = [told.get(name) for name in ("error", "message")]
    words = "; ".join(dict.fromkeys(clean(text) for text in texts if isinstance(text, str)))
    deadline = told.get("deadline")
    until = f"until {clean(deadline)}" if isinstance(deadline, str) else ""
    said = ", ".join(filter(None, (words, until)))
    if web.token is not None:
        said = said.replace(web.token, "…")
    return f": {said[:_LONGEST_CAUSE]}" if said else ""
