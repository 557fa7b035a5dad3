"""Titled groups of labelled values: what the details, the plans and the help are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from textual.content import Content

from tui.text import plain

MOST_NAMED = 12
"""How many files, tensors or warnings a plan names; an optimizer has thousands."""


@dataclass(frozen=True, slots=True)
class Section:
    """A title over rows of (label, value)."""

    title: str
    rows: tuple[tuple[str, Content], ...]


def text(value: object, style: str = "") -> Content:
    """A value from outside as inert text: no markup, no control characters."""
    lines = (plain(line) for line in str(value).split("\n"))
    return Content.styled("\n".join(lines), style)


def named(title: str, names: Sequence[str], style: str = "") -> Iterator[Section]:
    """A section of names, the first of them; none without names."""
    if names:
        rows = [("", text(name, style)) for name in names[:MOST_NAMED]]
        more = len(names) - MOST_NAMED
        rows += [("", text(f"and {more:,} more", "$dim"))] if more > 0 else []
        yield Section(title, tuple(rows))
