"""Titled groups of labelled values: what the details, the plans and the help are made of."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from tui.text import plain


@dataclass(frozen=True, slots=True)
class Section:
    """A title over rows of (label, value)."""

    title: str
    rows: tuple[tuple[str, Content], ...]


def text(value: object, style: str = "") -> Content:
    """A value from outside as inert text: no markup, no control characters."""
    lines = (plain(line) for line in str(value).split("\n"))
    return Content.styled("\n".join(lines), style)
