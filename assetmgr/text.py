"""Text that came from files or networks, made harmless for a terminal; and human units."""

from __future__ import annotations

import os
import unicodedata

_DANGEROUS = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def plain(text: str) -> str:
    r"""The text with control characters, direction overrides and lone surrogates escaped.

    What is not UTF-8 of a file's name reads `\xe9`, as in the names of assets.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _DANGEROUS:
        return character
    if "\udc80" <= character <= "\udcff":
        return os.fsencode(character).decode("ascii", "backslashreplace")
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def size(nbytes: int | None) -> str:
    """Bytes for a person: decimal units, as disks and model sites count."""
    if nbytes is None:
        return "-"
    amount = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError("the last unit returns")


def count(number: int, noun: str) -> str:
    """A number with its noun.

    >>> count(1, "asset"), count(20480, "asset")
    ('1 asset', '20,480 assets')
    """
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def duration(seconds: float) -> str:
    """Time for a person: `0:07`, `12:05`, `1:02:33`; days in words."""
    whole = round(seconds)
    if whole >= 2 * 86_400:
        return f"{whole // 86_400} days"
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
