"""How huggingface_hub talks to the Hub for us: guarded, patient, and with errors of ours.

Its own client has no time limits, waits as long as a Retry-After says, and follows the links of
answers with the token; all of its requests go through the one here instead. `HF_ENDPOINT`,
`HF_TOKEN` and `HF_HUB_OFFLINE` are read at each request, because that library reads them once.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assetmgr import __version__
from assetmgr.sources.bodies import ACCEPTED, MOST_ANSWER_BYTES, body_within
from assetmgr.sources.hub.errors import translated
from assetmgr.sources.origins import has_proxy, home_of, may_follow, same_origin
from assetmgr.sources.patience import BUSY, TRIES, Unreachable, delay, pause
from assetmgr.sources.tokens import find_token, origin_of
from assetmgr.sources.trust import certificates
from converters.errors import NotAvailable
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    import httpx2

HOME = "https://huggingface.co"
SETTING = "HF_ENDPOINT"
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")

_YES = frozenset({"1", "on", "yes", "true"})
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_CONNECT_SECONDS, _READ_SECONDS = 10.0, 60.0
_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class _Asking(NamedTuple):
    """What errors call the request, and whom it tells that it waits."""

    subject: str
    progress: Progress


_NOBODY = _Asking("the Hub", SILENT)
_NOW: ContextVar[_Asking] = ContextVar("asking")


@contextmanager
def asking(subject: str, progress: Progress = SILENT, *, repo: str | None = None) -> Iterator[None]:
    """Whatever huggingface_hub is called for inside: its errors become ours, naming `subject`.

    `repo` is the repository whose page a hint may name. Raises NotAvailable when the network is
    switched off, and what `translated` raises.
    """
    refuse_offline(subject)
    page = f"{endpoint()}/{repo}" if repo else None
    with _installing:
        _install()
    token = _NOW.set(_Asking(subject, progress))
    try:
        with translated(subject, page):
            yield
    finally:
        _NOW.reset(token)


def endpoint(environment: Mapping[str, str] = os.environ) -> str:
    """The address of the Hub or a mirror. Raises NotAvailable, BadValue."""
    return home_of(environment.get(SETTING) or HOME, SETTING)


def is_offline(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user has switched the network off."""
    return any(environment.get(name, "").lower() in _YES for name in _OFFLINE)


def refuse_offline(subject: str) -> None:
    """Raises NotAvailable when the user has switched the network off."""
    if is_offline():
        hint = "unset HF_HUB_OFFLINE"
        raise Unreachable("the network is switched off", path=subject, hint=hint)


def headers(secret: str | None = None) -> dict[str, str]:
    """The headers of a request to the Hub, with this token, or else that in use if there is one.

    Not made by the library's `build_hf_headers`: that brings a YAML parser and locks with it.
    """
    from huggingface_hub import __version__ as library

    own = token() if secret is None else secret
    known = {"Authorization": f"Bearer {own}"} if isinstance(own, str) else {}
    return {"User-Agent": f"assetmgr/{__version__}; hf_hub/{library}", **known}


def token(environment: Mapping[str, str] = os.environ) -> str | bool:
    """The token for the Hub in use; False for none.

    What `hf auth login` stored is for the Hub itself; a mirror gets only a token that was set or
    stored for it. Raises BadValue for what cannot be a token.
    """
    found = find_token(TOKENS, endpoint(environment), environment)
    if found is not None:
        return found.secret
    if origin_of(endpoint(environment)) != HOME:
        return False
    from huggingface_hub import constants

    if not Path(constants.HF_TOKEN_PATH).is_file():
        return False  # asking the library takes longer than the whole request
    from huggingface_hub import get_token

    return get_token() or False


_installing = threading.Lock()
"""Who does it once more closes the client that another thread is just asking with."""


@functools.cache
def _install() -> None:
    """Give huggingface_hub our client, and let it be silent: it logs addresses, unescaped."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        get_session,
        set_client_factory,
    )

    # It would tell what else is installed and who calls us, and make a request to find that out.
    constants.HF_HUB_DISABLE_TELEMETRY = True
    constants.HF_HUB_DISABLE_SYMLINKS_WARNING = True

    class Patient(httpx2.Client):
        """Asks again while the Hub is busy, as late as it wants; bodies are no longer than fit."""

        def send(
            self, request: httpx2.Request, *, stream: bool = False, **options: Any
        ) -> httpx2.Response:
            if self.is_closed:  # the library does that to all threads where one cannot connect
                return get_session().send(request, stream=stream, **options)
            answer = super().send(request, stream=True, **options)
            for attempt in range(TRIES - 1):
                if answer.status_code not in BUSY:
                    break
                answer.close()
                _wait(answer, attempt)
                answer = super().send(request, stream=True, **options)
            if answer.status_code not in BUSY:
                return answer if stream and not answer.is_error else _read(answer)
            answer.close()  # not given back, or the library would go on trying
            cause = f"the Hub answers with status {answer.status_code}"
            raise NotAvailable(cause, path=_NOW.get(_NOBODY).subject, hint="try again later")

    def made() -> httpx2.Client:
        from assetmgr.sources.hub.transport import WatchedTransport

        limits = httpx2.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS)
        hooks = {"request": [_guard]}
        told = {"Accept-Encoding": ACCEPTED}
        return Patient(
            event_hooks=hooks,
            follow_redirects=True,
            timeout=limits,
            headers=told,
            transport=None if has_proxy() else WatchedTransport(),
            verify=certificates(),
        )

    for name in ("huggingface_hub", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.ERROR)
    set_client_factory(made)


def _read(answer: httpx2.Response) -> httpx2.Response:
    """The answer with its body: the library reads that of an error as a whole, however long."""
    import httpx2

    if answer.request.method == "HEAD":
        answer.read()
        return answer
    with contextlib.closing(answer):
        body = body_within(answer, MOST_ANSWER_BYTES)
    kept = [pair for pair in answer.headers.multi_items() if pair[0].lower() not in _OF_THE_BODY]
    return httpx2.Response(answer.status_code, headers=kept, content=body, request=answer.request)


def _wait(answer: httpx2.Response, attempt: int) -> None:
    subject, progress = _NOW.get(_NOBODY)
    seconds = delay("the Hub", subject, answer.headers, attempt)
    progress.message(f"the Hub is busy, asking again in {seconds:.0f} s")
    pause(seconds, progress)


def _guard(request: httpx2.Request) -> None:
    """Called for every hop of every request: nothing of the user's leaves for another host."""
    import httpx2

    home = httpx2.URL(endpoint())
    if same_origin(home, request.url):
        return
    if not may_follow(home, request.url):
        raise NotAvailable("the Hub leads to an unsafe address", path=_NOW.get(_NOBODY).subject)
    for name in ("Authorization", "Cookie"):
        request.headers.pop(name, None)
