"""Names of files that every system takes."""

from __future__ import annotations

import re
from collections.abc import Container

from registry.text import fold

_LONGEST_ENDING = 20
_DEVICES = frozenset(
    {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    | {f"{port}{n}" for port in ("COM", "LPT") for n in "123456789¹²³"}
)
_UNFIT = re.compile(
    r'[<>:"/\\|?*\x00-\x1f\x7f-\x9f'
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What some system refuses; and what ends a line, or turns the direction of text."""


def safe_name(name: str) -> str:
    """A name of a network as one that every system takes, with at most 200 bytes, ending kept.

    It is one part of a path, and reads as it is. Source of the rules: Microsoft, "Naming Files,
    Paths, and Namespaces".
    """
    clean = _UNFIT.sub("_", name).rstrip(". ")
    stem, dot, suffix = clean.rpartition(".")
    if not dot or len(suffix.encode()) > _LONGEST_ENDING:
        stem, dot, suffix = clean, "", ""
    if stem.split(".")[0].rstrip(" ").upper() in _DEVICES or not clean:
        stem = f"_{stem}"
    kept = stem.encode()[: 200 - len(suffix.encode())].decode(errors="ignore")
    kept = kept if dot else kept.rstrip(". ")
    return f"{kept}{dot}{suffix}"


def visible_name(name: str) -> str:
    """A safe name that does not begin with a dot: scans, and people, see no hidden files."""
    safe = safe_name(name)
    return safe_name(f"_{safe}") if safe.startswith(".") else safe


def free_name(name: str, taken: Container[str]) -> str:
    """The name, or the first of `NAME (2)`, `NAME (3)`, … whose folded form is not among `taken`.

    The number goes before the ending. Systems that do not tell cases, or the
    two ways of writing an accent, apart are thought of.
    """
    stem, dot, suffix = name.rpartition(".") if "." in name.strip(".") else (name, "", "")
    candidate, number = name, 2
    while fold(candidate) in taken:
        candidate = f"{stem} ({number}){dot}{suffix}"
        number += 1
    return candidate
