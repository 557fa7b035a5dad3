"""How texts are compared: one folding for what is stored and for what is looked for.

The database only compares what was folded here, because its own idea of upper and lower case ends
with ASCII; so a clause in SQL and a comparison in Python mean the same.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping

BETWEEN = "\uffff"
"""Stands between texts that were folded: it is in none of them."""

_BREAK = "\n"
_ODD = str.maketrans("\0\ufffe\uffff", " \ufffd\ufffd")


def fold(text: str) -> str:
    """Without difference of case and of composed characters; always storable as UTF-8.

    NUL would end a text early in SQLite's comparisons, and its full-text index takes two characters
    that are none for the replacement character; lone surrogates have no UTF-8 form.
    """
    if text.isascii():  # as most are: the same, in a tenth of the time
        return text.lower().replace("\0", " ")
    folded = unicodedata.normalize("NFC", text).casefold().translate(_ODD)
    return folded.encode("utf-8", "replace").decode("utf-8")


def storable(text: str) -> bool:
    """Whether a text has a UTF-8 form (names of files need not have one on Linux)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def shown(name: str) -> str:
    r"""A name of a file as text that everything keeps: what is not UTF-8 of it reads `\xe9`."""
    return name if storable(name) else os.fsencode(name).decode("utf-8", "backslashreplace")


def haystack(texts: Iterable[str]) -> str:
    """The folded text that words of a query are looked for in; no word spans two of the texts.

    It ends with two breaks, so that each of its letters begins three characters.
    """
    return _BREAK.join([*(fold(text).replace(_BREAK, " ") for text in texts), _BREAK])


def needle(text: str) -> str:
    """A word or phrase of a query, folded as the texts it is looked for in."""
    return fold(text).replace(_BREAK, " ")


def searchable(
    name: str,
    note: str | None,
    tags: Iterable[str],
    trigger_words: Iterable[str],
    metadata: Mapping[str, str],
    sidecars: Iterable[str] = (),
) -> str:
    """All that the words of a query match of an asset. Embedded pictures are no text."""
    told = [value for value in metadata.values() if not value.startswith("data:")]
    return haystack([name, note or "", *tags, *trigger_words, *told, *sidecars])
