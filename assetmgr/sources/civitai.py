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
from typing import TYPE_CHECKING

from assetmgr.sources.civitai_records import (
    CivitaiModel,
    ModelFile,
    Version,
    model_of,
    version_of,
)
from assetmgr.sources.origins import home_of
from assetmgr.sources.tokens import find_token
from assetmgr.sources.transfer import Arrived, Transfer
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, FileMissing, NotAvailable
from converters.progress import SILENT, Progress
from registry.sidecars.document import BadSidecar, Fields, clean

if TYPE_CHECKING:
    import httpx

HOME = "https://civitai.com"
SETTING = "CIVITAI_ENDPOINT"
TOKENS = ("CIVITAI_TOKEN", "CIVITAI_API_KEY", "CIVITAI_API_TOKEN")

MOST_HASHES = 100
"""So many SHA-256 can be asked for at once."""

_PAGE = 50
_LONGEST_CAUSE = 200

SORTS = {
    "rated": "Highest Rated",
    "downloads": "Most Downloaded",
    "likes": "Most Liked",
    "discussed": "Most Discussed",
    "collected": "Most Collected",
    "images": "Most Images",
    "newest": "Newest",
    "oldest": "Oldest",
}
"""Our words for orders -> the site's."""

TYPES = {
    "checkpoint": ("Checkpoint",),
    "lora": ("LORA", "LoCon", "DoRA"),
    "embedding": ("TextualInversion",),
    "hypernetwork": ("Hypernetwork",),
    "vae": ("VAE",),
    "controlnet": ("Controlnet",),
    "upscaler": ("Upscaler",),
    "motion-module": ("MotionModule",),
    "text-encoder": ("TextEncoder", "CLIP"),
    "diffusion-model": ("UNet",),
    "clip-vision": ("CLIPVision",),
}
"""Kind -> the site's types."""

BASES = {
    "sd-1": ("SD 1.4", "SD 1.5", "SD 1.5 LCM", "SD 1.5 Hyper"),
    "sd-2": ("SD 2.0", "SD 2.0 768", "SD 2.1", "SD 2.1 768", "SD 2.1 Unclip"),
    "sdxl": (
        "SDXL 0.9",
        "SDXL 1.0",
        "SDXL 1.0 LCM",
        "SDXL Turbo",
        "SDXL Lightning",
        "SDXL Hyper",
        "SDXL Distilled",
        "Pony",
        "Illustrious",
        "NoobAI",
    ),
    "sd-3": ("SD 3", "SD 3.5", "SD 3.5 Medium", "SD 3.5 Large", "SD 3.5 Large Turbo"),
    "flux": ("Flux.1 S", "Flux.1 D", "Flux.1 Krea", "Flux.1 Kontext"),
}
"""Base -> the site's texts; what is not here is asked for in the site's own words."""


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for, in the words of the contract; `base` may also be the site's own text."""

    text: str
    kind: str | None = None
    base: str | None = None
    sort: str | None = None
    limit: int = 20


def endpoint(environment: Mapping[str, str] = os.environ) -> str:
    """The address of the site. Raises NotAvailable, BadValue."""
    return home_of(environment.get(SETTING) or HOME, SETTING)


def connect(environment: Mapping[str, str] = os.environ) -> Web:
    """The service that the environment describes. Raises BadValue for what cannot be a token."""
    home = endpoint(environment)
    found = find_token(TOKENS, home, environment)
    return Web("Civitai", home, found.secret if found else None, SETTING)


def whose(secret: str, progress: Progress = SILENT) -> str | None:
    """The name of the user a token is of. Raises NotAvailable for one that is refused."""
    subject = "the token"
    with (
        Web("Civitai", endpoint(), secret, SETTING) as web,
        web.open("/api/v1/me", subject, progress=progress) as answer,
    ):
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise NotAvailable("is not accepted by Civitai", path=subject)
        return _parsed(web, answer, subject).text("username")


def search(web: Web, wanted: Search, progress: Progress = SILENT) -> Iterator[CivitaiModel]:
    """Models, best first, at most `limit`. Raises NotAvailable."""
    params: dict[str, str | list[str]] = {"query": wanted.text} if wanted.text else {}
    if wanted.kind is not None:
        params["types"] = list(TYPES[wanted.kind])
    if wanted.base is not None:
        params["baseModels"] = list(BASES.get(wanted.base, (wanted.base,)))
    if wanted.sort is not None:
        params["sort"] = SORTS[wanted.sort]
    left = wanted.limit
    while left > 0:
        # Pages by number are refused together with a query.
        params["limit"] = str(min(left, _PAGE))
        page = _get(web, "/api/v1/models", "the search", params, progress)
        found = [model for item in page.objects("items") if (model := model_of(item))][:left]
        yield from found
        left -= len(found)
        cursor = page.inside("metadata").label("nextCursor")
        if not found or cursor is None or cursor == params.get("cursor"):
            return
        params["cursor"] = cursor


def model(web: Web, number: str, progress: Progress = SILENT) -> CivitaiModel:
    """One model with its versions. Raises FileMissing, NotAvailable."""
    subject = f"civitai model {number}"
    found = model_of(_get(web, f"/api/v1/models/{number}", subject, {}, progress))
    if found is None:
        raise web.unfit(subject)
    return found


def version(web: Web, number: str, progress: Progress = SILENT) -> Version:
    """One version. Raises FileMissing, NotAvailable."""
    subject = f"civitai version {number}"
    found = version_of(_get(web, f"/api/v1/model-versions/{number}", subject, {}, progress))
    if found is None:
        raise web.unfit(subject)
    return found


def by_hash(web: Web, digest: str, progress: Progress = SILENT) -> Version | None:
    """The oldest version with a file of this hash, of whatever sort; None without one."""
    path, subject = f"/api/v1/model-versions/by-hash/{digest}", f"hash {digest}"
    try:
        return version_of(_get(web, path, subject, {}, progress))
    except FileMissing:
        return None


def by_sha256(web: Web, digests: Sequence[str], progress: Progress = SILENT) -> list[Version]:
    """The versions with files of these hashes, in few requests. Raises NotAvailable."""
    found: list[Version] = []
    for start in range(0, len(digests), MOST_HASHES):
        wanted = [digest.upper() for digest in digests[start : start + MOST_HASHES]]
        with web.open(
            "/api/v1/model-versions/by-hash",
            "the look-up",
            method="POST",
            json=wanted,
            progress=progress,
        ) as answer:
            listed = _parsed(web, answer, "the look-up").objects("items")
        found += [known for item in listed if (known := version_of(item))]
    return found


def address(web: Web, version_id: str, file_id: str | None) -> str:
    """Where a file is downloaded from; without a file the primary one of the version."""
    chosen = "" if file_id is None else f"?fileId={file_id}"
    return f"{web.endpoint}/api/download/models/{version_id}{chosen}"


def fetch(
    web: Web, version_id: str, file: ModelFile, part: Path, progress: Progress = SILENT
) -> Arrived:
    """Download a file to `part`, going on behind what an earlier call left there.

    Raises NotAvailable, FileMissing, DiskFull, WriteFailed, or Cancelled from `progress`.
    """
    where = address(web, version_id, file.id).removeprefix(web.endpoint)
    return Transfer(web, where, file.name, part, file.size, refusal).run(progress)


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
    cause = f"Civitai answers with status {status}{said}"
    return NotAvailable(cause, path=subject, hint="try again later")


def _get(
    web: Web,
    path: str,
    subject: str,
    params: Mapping[str, str | list[str]],
    progress: Progress,
) -> Fields:
    with web.open(path, subject, params=params, progress=progress) as answer:
        return _parsed(web, answer, subject)


def _parsed(web: Web, answer: httpx.Response, subject: str) -> Fields:
    """The object in an answer; a list becomes the `items` of one."""
    body = web.read(answer, subject)
    if answer.status_code != HTTPStatus.OK:
        raise refusal(web, answer.status_code, body, subject)
    if body.lstrip()[:1] == b"[":
        body = b'{"items":' + body + b"}"
    try:
        return Fields.of(subject, body)
    except BadSidecar:
        raise web.unfit(subject) from None


def _said(web: Web, body: bytes) -> str:
    """The site's own words for an error, short, and without the token if it should echo that."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    told = document if isinstance(document, dict) else {}
    texts = [told.get(name) for name in ("error", "message", "deadline")]
    said = ", until ".join(dict.fromkeys(clean(text) for text in texts if isinstance(text, str)))
    if web.token is not None:
        said = said.replace(web.token, "…")
    return f": {said[:_LONGEST_CAUSE]}" if said else ""
