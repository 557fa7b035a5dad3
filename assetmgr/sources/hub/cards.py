"""The page of a repository as plain text: Markdown and HTML without their marks."""

from __future__ import annotations

import re

from registry.sidecars.markup import plain_text

_FRONT = re.compile(r"\A\s*---\s*\n.*?\n---\s*(?:\n|\Z)", re.DOTALL)
_CODE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.DOTALL | re.MULTILINE)
_OPEN_CODE = re.compile(r"^(?:```|~~~).*\Z", re.DOTALL | re.MULTILINE)
_PICTURE = re.compile(r"!\[[^\[\]]*\](?:\([^)]*\)|\[[^\[\]]*\])")
_LINK = re.compile(r"\[([^\[\]]+)\](?:\([^)]*\)|\[[^\[\]]*\])")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+", re.MULTILINE)
_TABLE_RULE = re.compile(r"^[ \t|:+-]+(?:\n|\Z)", re.MULTILINE)
_EMPHASIS = re.compile(r"\*{1,3}(?=\S)|(?<=\S)\*{1,3}|`+")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_GAPS = re.compile(r"\n{3,}")
_LONGEST = 1500
_READ = 8 * _LONGEST
"""Characters after the facts at the top; patterns may need the square of it as steps."""


def summary(card: str | None, longest: int = _LONGEST) -> str | None:
    """The beginning of the text of a card, at most so many characters; None without a word."""
    text = _FRONT.sub("", card or "", count=1)[:_READ]
    for mark in (_COMMENT, _CODE, _OPEN_CODE, _PICTURE):
        text = mark.sub("", text)
    text = _LINK.sub(r"\1", text)
    for mark in (_TABLE_RULE, _HEADING, _EMPHASIS):
        text = mark.sub("", text)
    text = _GAPS.sub("\n\n", plain_text(text) or "").strip()
    if len(text) > longest:
        text = text[:longest].rsplit(maxsplit=1)[0] + " …"
    return text or None
