"""The errors of huggingface_hub as ours; tokens and addresses of files are in none of them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from assetmgr.sources.bodies import TooSlow
from assetmgr.sources.patience import Unreachable
from assetmgr.sources.trust import distrusted, is_distrust
from converters.errors import (
    AssetmgrError,
    BadValue,
    DiskFull,
    FileMissing,
    NotAvailable,
    WriteFailed,
)

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

_LOGIN = "log in with `assetmgr login hub`, or set HF_TOKEN"
_ACCOUNT = "the account of the token in use (that of HF_TOKEN or `assetmgr login hub`)"
_BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - what the Hub says
_DISABLED = "Access to this resource is disabled."


@contextmanager
def translated(subject: str, page: str | None = None) -> Iterator[None]:
    """The library's errors as ours, naming `subject`; `page` is where access is asked for.

    None is chained to what was raised: that may name addresses which are signed. Raises BadValue,
    FileMissing, NotAvailable, DiskFull, WriteFailed.
    """
    from httpx2 import HTTPError, InvalidURL  # the client of huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except HFValidationError:
        raise BadValue("is not the name of a repository, such as ORG/NAME", path=subject) from None
    except HfHubHTTPError as error:
        raise _of_answer(subject, page, error) from None
    except InvalidURL:
        raise NotAvailable("HF_ENDPOINT is not an address", path=subject) from None
    except (TooSlow, HTTPError) as error:
        raise _of_connection(subject, error) from None
    except (OSError, ValueError) as error:
        raise _of_library(subject, page, error) from None


def _of_answer(subject: str, page: str | None, error: HfHubHTTPError) -> AssetmgrError:
    """What the Hub said."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        is_known = "Authorization" in error.response.request.headers
        then = f" with {_ACCOUNT}" if is_known else f", then {_LOGIN}"
        hint = f"accept its conditions at {page or 'its page'}{then}"
        return NotAvailable("access to this repository is restricted", path=subject, hint=hint)
    if isinstance(error, errors.RevisionNotFoundError):
        return FileMissing("the repository has no such revision", path=subject)
    if isinstance(error, errors.EntryNotFoundError):
        return FileMissing("the repository has no such file", path=subject)
    told = error.response.headers
    # The library calls every 401 a missing repository; only some of them say so themselves.
    if told.get("X-Error-Code") == "RepoNotFound" or error.response.status_code == 404:
        hint = f"if it is private, {_LOGIN}"
        return FileMissing("the Hub has no such repository", path=subject, hint=hint)
    return _of_status(subject, error.response.status_code, told.get("X-Error-Message"))


def _of_status(subject: str, status: int, message: str | None) -> AssetmgrError:
    if message == _BAD_TOKEN:
        return NotAvailable("the Hub does not accept the token", path=subject, hint=_LOGIN)
    if message == _DISABLED:
        return NotAvailable("the Hub has disabled this repository", path=subject)
    if status in {401, 403}:
        hint = f"use a token that has access: {_LOGIN}"
        return NotAvailable("the Hub refuses access", path=subject, hint=hint)
    cause = f"the Hub answers with status {status}"
    return NotAvailable(cause, path=subject, hint="try again later")


def _of_library(subject: str, page: str | None, error: OSError | ValueError) -> AssetmgrError:
    """What is none of HTTP; but what was is wrapped where the cache has nothing instead."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    cause = error.__cause__
    if isinstance(cause, HfHubHTTPError):
        return _of_answer(subject, page, cause)
    if isinstance(cause, (TooSlow, HTTPError)):
        return _of_connection(subject, cause)
    if isinstance(error, OSError):
        return _of_system(subject, error)
    return no_hub(subject)  # an answer that is no JSON, or a header that is no text


def _of_system(subject: str, error: OSError) -> AssetmgrError:
    """Trouble below HTTP: switched off, broken off, or the disk."""
    if error.errno in {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}:
        return DiskFull("no space left on the disk", path=subject)
    if error.errno is not None:
        return WriteFailed(f"cannot be stored: {error.strerror}", path=subject)
    # The library's own: fewer or more bytes came than were announced.
    return NotAvailable("the download broke off", path=subject, hint="the same command goes on")


def _of_connection(subject: str, error: Exception) -> AssetmgrError:
    if isinstance(error, TooSlow):
        return NotAvailable("the Hub answers too slowly", path=subject, hint="try again later")
    if is_distrust(error):
        return distrusted("the Hub", subject)
    hint = "check the connection and HF_ENDPOINT"
    return Unreachable("the Hub cannot be reached", path=subject, hint=hint)


def no_hub(subject: str) -> AssetmgrError:
    """The error of an answer that a Hub would not give."""
    return NotAvailable("the answer is not that of a Hub", path=subject, hint="check HF_ENDPOINT")
