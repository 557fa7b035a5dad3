"""Descriptions of model sites are HTML; what is kept of them is their text."""

from __future__ import annotations

import html
import re

from registry.sidecars.document import clean

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9]*)(?:\s[^<>]*)?/?>|<!--[^<>]*-->")
_BLOCKS = frozenset(
    ("blockquote", "br", "div", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre")
)
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*")


def plain_text(text: str | None) -> str | None:
    """The text of HTML in lines, for its blocks; a text without HTML stays as it is."""
    if text is None or not _TAG.search(text):
        return text
    bare = _SPACES.sub(" ", _unescaped(_TAG.sub(_replacement, text)))
    return clean(_LINES.sub("\n", bare)) or None


def _replacement(tag: re.Match[str]) -> str:
    return "\n" if tag[2] and tag[2].lower() in _BLOCKS else ""


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character number of thousands of digits
        return text
