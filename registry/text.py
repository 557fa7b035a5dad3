"""How texts are compared: one folding for what is stored and for what is looked for.

The database only compares what was folded here, because its own idea of upper and lower case ends
with ASCII; so a clause in SQL and a comparison in Python mean the same.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping

from converters.suffixes import MODEL_SUFFIXES

BETWEEN = "\uffff"
"""Stands between texts that were folded: it is in none of them."""

_BREAK = "\n"
_LONE = re.compile("[\ud800-\udfff]")
_KEPT = re.compile("//(d[89a-f][0-9a-f]{2})")
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


def kept_place(path: str) -> str:
    """A path as databases keep it: a system's names need not be Unicode, their texts must be.

    On Linux a name is bytes, on Windows 16-bit units; what has no UTF-8 form is in Python's text as
    lone surrogates (PEP 383), which neither SQLite nor PostgreSQL keeps. Each stands as `//` and
    its four digits: no path of ours has two slashes in a row, so nothing is taken for one.
    """
    return path if path.isascii() else _LONE.sub(lambda found: f"//{ord(found[0]):04x}", path)


def place_kept(text: str) -> str:
    """The path that is kept so, as the system knows it."""
    return _KEPT.sub(lambda found: chr(int(found[1], 16)), text) if "//" in text else text


def haystack(texts: Iterable[str]) -> str:
    """The folded text that words of a query are looked for in; no word spans two of the texts.

    It ends with two breaks, so that each of its letters begins three characters.
    """
    return _BREAK.join([*(fold(text).replace(_BREAK, " ") for text in texts), _BREAK])


def needle(text: str) -> str:
    """A word or phrase of a query, folded as the texts it is looked for in."""
    return fold(text).replace(_BREAK, " ")


def word_needle(text: str) -> str:
    """What a word stands for: of the name of a model file what the library calls the file."""
    folded = needle(text)
    stem, dot, suffix = folded.rpartition(".")
    return stem if stem and dot + suffix in MODEL_SUFFIXES else folded


def searchable(
    name: str,
    note: str | None,
    tags: Iterable[str],
    trigger_words: Iterable[str],
    metadata: Mapping[str, str],
    sidecars: Iterable[str] = (),
    files: Iterable[str] = (),
) -> str:
    """All that the words of a query match of an asset, also what its `files` are called.

    Embedded pictures are no text.
    """
    told = [value for value in metadata.values() if not value.startswith("data:")]
    others = [file for file in dict.fromkeys(files) if file != name]
    return haystack([name, note or "", *tags, *trigger_words, *told, *sidecars, *others])
