"""JSON from files nobody vouches for: bounded, without keys given twice, always an object."""

from __future__ import annotations

import json
import re

MAX_VALUES = 2_000_000
"""JSON values in one document: a hundred times what the largest models need."""


class BadJson(Exception):
    """What is wrong with a document, as the end of a sentence that begins with its name."""


def parse_object(document: bytes) -> dict[str, object]:
    """The object in a UTF-8 document. Raises BadJson."""
    if _is_excessive(document):
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


def split_first(document: bytes, key: str) -> tuple[object, str] | None:
    """The value of an object's first key, and the JSON of what follows: other keys, the brace.

    None where `key` is not the first one, or what is wrong with the document is left to
    `parse_object`.
    """
    start = _FIRST_KEY.match(document)
    if start is None or start[1] != key.encode() or _is_excessive(document):
        return None
    try:
        text = str(document, "utf-8")
        value, end = _DECODER.raw_decode(text, start.end())  # before it all is ASCII
    except (ValueError, RecursionError, BadJson):
        return None
    following = _FOLLOWING.match(text, end)
    return None if following is None else (value, text[following.end() :])


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


def _is_excessive(document: bytes) -> bool:
    if len(document) <= MAX_VALUES:  # a value takes more than one byte
        return False
    return sum(document.count(mark) for mark in (b",", b"[", b"{")) > MAX_VALUES


_FIRST_KEY = re.compile(rb'\{[ \t\r\n]*"(\w+)"[ \t\r\n]*:[ \t\r\n]*')
_FOLLOWING = re.compile(r'[ \t\r\n]*(?:,[ \t\r\n]*(?=")|(?=\}))')
_DECODER = json.JSONDecoder(object_pairs_hook=_distinct)
