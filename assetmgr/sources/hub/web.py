"""The Hub over the connections that its files come by.

huggingface_hub and the client inside of it are loaded only for what they alone know: what a refusal
means, the cache, and files of which no listing tells. For a listing, that would be a third of the
time until the first byte of a download; and each client makes connections of its own.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from assetmgr.sources.hub.client import SETTING, asking, endpoint, refuse_offline, token
from assetmgr.sources.hub.errors import no_hub
from assetmgr.sources.patience import LONGEST_WAIT
from assetmgr.sources.web import Web
from converters.errors import AssetmgrError, BadValue
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    import httpx

_REPO = re.compile(r"(?:\b[\w.-]{1,96}\b/)?\b[\w.-]{1,96}\b", re.ASCII)
_NEVER = ("--", "..")
MOST_OF_REFUSAL = 1 << 20
"""Bytes of an answer that is no success; what it means is mostly in its headers."""


def connect(subject: str = "the Hub", longest_wait: float = LONGEST_WAIT) -> Web:
    """The Hub that the environment describes; it may ask to be left alone for so many seconds.

    Raises NotAvailable when the network is switched off, BadValue for what cannot be a token.
    """
    refuse_offline(subject)
    secret = token()
    known = secret if isinstance(secret, str) else None
    return Web("the Hub", endpoint(), known, SETTING, longest_wait=longest_wait)


def check_repo(repo: str) -> None:
    """Raises BadValue for what huggingface_hub (`utils/_validators.py`) takes for no repository."""
    is_one = _REPO.fullmatch(repo) and not repo.endswith(".git")
    if not is_one or any(part in repo for part in _NEVER):
        raise BadValue("is not the name of a repository, such as ORG/NAME", path=repo)


def ask(
    web: Web,
    address: str,
    subject: str,
    most: int,
    progress: Progress = SILENT,
    *,
    repo: str | None = None,
) -> tuple[bytes, str | None]:
    """The body of an answer, cut at `most` bytes, and the address of the page that follows.

    Raises what the Hub's refusal means: FileMissing, NotAvailable.
    """
    with web.open_elsewhere(address, subject, progress=progress) as answer:
        if answer.status_code != HTTPStatus.OK:
            raise refusal(web, answer, subject, repo)
        return web.beginning(answer, subject, most), answer.links.get("next", {}).get("url")


def refusal(
    web: Web, answer: httpx.Response, subject: str, repo: str | None = None
) -> AssetmgrError:
    """What an answer that is no success means, in the opinion of huggingface_hub."""
    from httpx2 import Request, Response
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    asked, body = answer.request, web.beginning(answer, subject, MOST_OF_REFUSAL)
    request = Request(asked.method, str(asked.url), headers=list(asked.headers.items()))
    told = [(name, value) for name, value in answer.headers.items() if name.startswith("x-")]
    try:
        with asking(subject, repo=repo):
            hf_raise_for_status(
                Response(answer.status_code, headers=told, content=body, request=request)
            )
    except AssetmgrError as error:
        return error
    return no_hub(subject)
