"""Text for cells: nothing from a file may steer the terminal or break a column.

Widths are terminal cells, not characters: a CJK character takes two.
"""

from __future__ import annotations

from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size

from assetmgr.text import count, plain, size

__all__ = [
    "count",
    "day",
    "duration",
    "fit",
    "fit_middle",
    "million",
    "plain",
    "size",
    "unescaped",
]


def fit(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly `width` cells: padded, or cut with an ellipsis.

    >>> fit("麦橘写实", 6)
    '麦橘… '
    """
    used = cell_len(text)
    if used <= width:
        gap = " " * (width - used)
        return gap + text if right else text + gap
    if width < 2:
        return set_cell_size(text, max(width, 0))
    return set_cell_size(set_cell_size(text, width - 1).rstrip() + "…", width)


def fit_middle(text: str, width: int) -> str:
    """As `fit`, but cut in the middle: names of tensors begin alike and differ in their ends.

    >>> fit_middle("lora_unet_down_blocks_0_to_k", 16)
    'lora_un…s_0_to_k'
    """
    if cell_len(text) <= width or width < 5:
        return fit(text, width)
    head = set_cell_size(text, (width - 1) // 2)
    tail, room = "", width - 1 - cell_len(head)
    for letter in reversed(text):
        if cell_len(letter + tail) > room:
            break
        tail = letter + tail
    return set_cell_size(f"{head}…{tail}", width)


def unescaped(text: str, given: str) -> str:
    r"""What was `plain(given)` and then changed, with the characters that stand escaped in it.

    >>> unescaped(r"new\x1b, b\n", "a\x1b")
    'new\x1b, b\\n'
    """
    for character in set(given):
        escape = plain(character)
        if escape not in given:
            text = text.replace(escape, character)
    return text


def million(number: int) -> str:
    """A number of parameters, as people speak of model sizes.

    >>> million(859_520_964), million(37_749), million(768)
    ('860 M', '0.04 M', '768')
    """
    if number < 10_000:
        return f"{number:,}"
    value = number / 1e6
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:,.{digits}f} M"


def day(moment: datetime) -> str:
    """The date of a moment in UTC, as 2026-01-31."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(4.2), duration(75), duration(7260)
    ('4 s', '1:15 min', '2:01 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
