"""What of the Hub is meant: `ORG/NAME[@REVISION]`, or the address of a page that was copied."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from assetmgr.sources.hub.client import HOME, endpoint
from converters.errors import BadValue

_ITSELF = frozenset({urlsplit(HOME).hostname, "www.huggingface.co", "hf.co"})
_ROUTES = frozenset({"tree", "blob", "resolve", "raw"})


@dataclass(frozen=True, slots=True)
class Named:
    """A repository at a revision, None for its default; `file` is a file or folder in it."""

    repo: str
    revision: str | None = None
    file: str | None = None


def parse_named(text: str) -> Named:
    """A name with its revision, or an address such as `https://huggingface.co/O/N/blob/main/F`.

    Of an address only the names are used: requests go to the Hub that is set, and to no other.
    Raises BadValue for an address of another site, or of a page that is none of a repository.
    """
    if "://" not in text:
        repo, _, revision = text.partition("@")
        return Named(repo, revision or None)
    parts = urlsplit(text)
    if parts.hostname not in {*_ITSELF, urlsplit(endpoint()).hostname}:
        raise BadValue("is an address of another site than the Hub", path=text)
    organisation, _, rest = parts.path.strip("/").partition("/")
    name, _, rest = rest.partition("/")
    route, _, rest = rest.partition("/")
    revision, _, file = rest.partition("/")
    if not name or route not in {"", *_ROUTES} or (route and not revision):
        hint = "such as https://huggingface.co/ORG/NAME"
        raise BadValue("is not the address of a repository of models", path=text, hint=hint)
    return Named(f"{organisation}/{name}", unquote(revision) or None, unquote(file) or None)
