"""JSON from files nobody vouches for: bounded, without keys given twice, always an object."""

from __future__ import annotations

import json

MAX_VALUES = 2_000_000
"""JSON values in one document: a hundred times what the largest models need."""


class BadJson(Exception):
    """What is wrong with a document, as the end of a sentence that begins with its name."""


def parse_object(document: bytes) -> dict[str, object]:
    """The object in a UTF-8 document. Raises BadJson."""
    if sum(document.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES:
        raise BadJson(f"holds more than {MAX_VALUES} values")
    try:
        parsed = json.loads(str(document, "utf-8"), object_pairs_hook=_distinct)
    except UnicodeDecodeError as error:
        raise BadJson(f"is not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise BadJson("is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise BadJson(f"is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise BadJson("is JSON, but not an object")
    return parsed


def short(value: object) -> str:
    """A value as JSON, cut to what an error can show."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise BadJson(f"has the key {short(name)} twice")
        seen.add(name)
    return found
