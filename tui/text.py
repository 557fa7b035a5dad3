"""Text for cells: nothing from a file may steer the terminal or break a column.

Widths are terminal cells, not characters: a CJK character takes two.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories that draw nothing but act: controls, bidirectional overrides, surrogates."""


def visible(text: str) -> str:
    r"""The text with every control, format and lone surrogate character written as an escape.

    >>> visible("red\x1b[31m")
    'red\\x1b[31m'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _INVISIBLE else c for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


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


def size(nbytes: int) -> str:
    """A number of bytes in decimal units, three significant digits.

    >>> size(2_132_625_432)
    '2.13 GB'
    """
    value, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = 0 if unit == "B" or value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:.{digits}f} {unit}"


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "asset"), count(20480, "asset")
    ('1 asset', '20,480 assets')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def day(moment: datetime) -> str:
    """The date of a moment in UTC, as 2026-01-31."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")
