"""From the text of a query to its terms."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from converters.errors import BadValue
from registry.query import terms
from registry.query.terms import All, Not, Term

_TOKEN = re.compile(
    r"""
    (?P<minus>-)?
    (?:(?P<filter>[A-Za-z][A-Za-z_-]*):)?
    (?: "(?P<phrase>[^"]*)"? | (?P<word>[^\s"]+) )?
    """,
    re.VERBOSE,
)
_SIZE = re.compile(r"(?P<comparison>[<>]=?|)(?P<number>\d+(?:\.\d+)?)(?P<unit>[kmgt]?i?b?)")
_RATING = re.compile(r"(?P<comparison>[<>]=?|)(?P<number>[0-5])")
_HEX = re.compile(r"[0-9a-f]{1,64}")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_LARGEST = 2**63 - 1


def parse(query: str) -> All:
    """The terms of a query. Raises BadValue for a filter or value that means nothing."""
    found: list[Term] = []
    position = 0
    while position < len(query):
        if query[position].isspace():
            position += 1
            continue
        match = _TOKEN.match(query, position)
        assert match is not None  # every part of the pattern is optional
        if match.end() == position:  # a quote or minus by itself, half typed
            position += 1
            continue
        position = match.end()
        term = _term(match)
        if term is not None:
            found.append(term)
    return All(tuple(found))


def _term(match: re.Match[str]) -> Term | None:
    text = match["phrase"] if match["phrase"] is not None else match["word"] or ""
    if match["filter"] is None:
        term: Term | None = terms.Words(text) if text.strip() else None
    else:
        term = _filter(match["filter"].lower(), text.strip())
    return Not(term) if term is not None and match["minus"] else term


def _filter(name: str, value: str) -> Term:
    make = FILTERS.get(name)
    if make is None:
        raise BadValue(
            f"there is no filter '{name}', only {', '.join(FILTERS)}",
            hint='a text with a colon is looked for in quotes: "a:b"',
        )
    if not value:
        raise BadValue(f"the filter {name}: needs a value")
    return make(value)


def _column(name: str) -> Callable[[str], Term]:
    return lambda value: terms.Is(name, value.lower())


def _state(value: str) -> Term:
    make = STATES.get(value.lower())
    if make is None:
        raise BadValue(f"no state is:{value}; there are {', '.join(STATES)}")
    return make()


def _verdict(value: str) -> Term:
    known = ("ok", "failed", terms.NO_VERDICT)
    if value.lower() not in known:
        raise BadValue(f"no verdict {value}; there are {', '.join(known)}")
    return terms.PreviewVerdict(value.lower())


def _hash(value: str) -> Term:
    if not _HEX.fullmatch(value.lower()):
        raise BadValue(f"not the beginning of a hash: {value}")
    return terms.Hash(value.lower())


def _size(value: str) -> Term:
    match = _SIZE.fullmatch(value.lower())
    if match is None:
        raise BadValue(f"not a size: {value}", hint="as in size:>1gb, size:<=300mb, size:4gib")
    unit = match["unit"].removesuffix("b")
    power = _POWERS[unit[:1].removesuffix("i")]
    nbytes = Decimal(match["number"]) * (1024 if unit.endswith("i") else 1000) ** power
    return terms.Number("bytes", match["comparison"], min(int(nbytes), _LARGEST))


def _rating(value: str) -> Term:
    match = _RATING.fullmatch(value)
    if match is None:
        raise BadValue(f"not a rating: {value}", hint="as in rating:5 or rating:>=3")
    return terms.Number("rating", match["comparison"], int(match["number"]))


FILTERS: dict[str, Callable[[str], Term]] = {
    "kind": _column("kind"),
    "base": _column("base"),
    "variant": _column("variant"),
    "container": _column("container"),
    "layout": _column("layout"),
    "algorithm": lambda value: terms.Algorithm(value.lower()),
    "tag": terms.Tag,
    "rating": _rating,
    "hash": _hash,
    "size": _size,
    "verdict": _verdict,
    "safety": lambda value: terms.Safety(value.lower()),
    "is": _state,
    "path": terms.PathPart,
}
"""What can stand before a colon -> what it asks of an asset."""

STATES: dict[str, Callable[[], Term]] = {
    "duplicate": terms.Duplicate,
    "missing": terms.Missing,
    "offline": terms.Offline,
    "unsafe": terms.Unsafe,
    "contradicted": terms.Contradicted,
}
"""What can follow `is:`."""
