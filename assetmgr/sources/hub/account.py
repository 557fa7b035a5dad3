"""Whose token is it? The one question to the Hub that is asked with a token not stored yet.

Route and field: huggingface_hub `hf_api.py` (`whoami`).
"""

from __future__ import annotations

from http import HTTPStatus

from assetmgr.sources.hub.client import asking, endpoint, headers
from assetmgr.sources.hub.errors import no_hub
from converters.errors import NotAvailable
from converters.progress import SILENT, Progress
from registry.document import BadDocument, Fields

_SUBJECT = "the token"


def whose(secret: str, progress: Progress = SILENT) -> str | None:
    """The name of the user or organisation. Raises NotAvailable for a token that is refused."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        get_session,
        hf_raise_for_status,
    )

    with asking(_SUBJECT, progress):
        answer = get_session().get(f"{endpoint()}/api/whoami-v2", headers=headers(secret))
        if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise NotAvailable("is not accepted by the Hub", path=_SUBJECT)
        hf_raise_for_status(answer)
    try:
        return Fields.of(_SUBJECT, answer.content).text("name")
    except BadDocument:
        raise no_hub(_SUBJECT) from None
