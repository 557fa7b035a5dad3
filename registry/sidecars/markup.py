"""Descriptions of model sites are HTML; what is kept of them is their text."""

from __future__ import annotations

import html
import re

from registry.document import clean

_BLOCKS = "blockquote|br|div|h[1-6]|hr|li|ol|p|pre|table|tr|ul"
_INLINE = "a|b|center|code|del|em|font|i|iframe|img|ins|s|small|span|strong|sub|sup|tbody|td|th|u"
_TAG = re.compile(
    rf"</?(?:(?P<block>{_BLOCKS})|{_INLINE})(?:\s[^<>]*)?/?>|<!--[^<>]*-->", re.IGNORECASE
)
"""Known names only: `<sks>` and `<lora:fox:1>` are words of prompts."""

_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*")


def plain_text(text: str | None) -> str | None:
    """The text of HTML in lines, for its blocks; a text without HTML stays as it is."""
    if text is None or not _TAG.search(text):
        return text
    bare = _SPACES.sub(" ", _unescaped(_TAG.sub(_replacement, text)))
    return clean(_LINES.sub("\n", bare)) or None


def _replacement(tag: re.Match[str]) -> str:
    return "\n" if tag["block"] else ""


def _unescaped(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character number of thousands of digits
        return text
