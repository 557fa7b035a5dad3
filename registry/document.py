"""JSON of others is read leniently: what is wrong is noted, and the rest of it is used.

Sidecars, which many programs and many hands write, and answers of services: none is trusted with
memory or time. JSON has at most `MAX_VALUES` values, texts and lists are cut.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from dataclasses import dataclass

MAX_BYTES = 8_000_000
"""Of a sidecar."""
MAX_VALUES = 500_000
MAX_TEXT = 65_536
MAX_ITEMS = 1000

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MARKS = re.compile(r"[,\[{]")
_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml)\b", re.IGNORECASE)
_DIGITS = {
    "sha256": frozenset({64}),
    "blake3": frozenset({64}),
    "crc32": frozenset({8}),
    "autov1": frozenset({8}),
    "autov2": frozenset({10}),
    "autov3": frozenset({12, 64}),
}
"""Hex digits of each hash; Civitai gives the first 12 of AutoV3."""


class BadDocument(Exception):
    """Why nothing of it can be used."""


def decode(content: bytes) -> tuple[str, tuple[str, ...]]:
    """The text in a file, and a problem if its encoding had to be guessed."""
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, "replace"), ()
    try:
        return content.decode("utf-8"), ()
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 at byte {error.start}, read as Windows-1252"
        return content.decode("cp1252", "replace"), (problem,)


def clean(text: str) -> str:
    """A text that every database can store, without white space around it, cut to `MAX_TEXT`."""
    storable = text[: 2 * MAX_TEXT].replace("\0", " ").encode("utf-8", "replace")
    return storable.decode("utf-8").strip()[:MAX_TEXT].rstrip()


@dataclass(slots=True)
class Fields:
    """The values of a JSON object, taken by type; a value of another type is noted and left out.

    `place` is the way to this object from the top, for the notes.
    """

    path: str
    values: dict[str, object]
    problems: list[str]
    place: str = ""

    @classmethod
    def of(cls, path: str, content: bytes) -> Fields:
        """The object in a JSON file. Raises BadDocument."""
        text, problems = decode(content)
        return cls(path, _parse(text), list(problems))

    def text(self, name: str) -> str | None:
        """A text that is not empty."""
        value = self._typed(name, str, "a text")
        return (clean(value) or None) if isinstance(value, str) else None

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self.values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            self._note(name, "a number")
            return None
        try:
            number = None if value is None else float(value)
        except OverflowError:
            number = math.inf
        if number is not None and not math.isfinite(number):
            self._note(name, "a finite number")
            return None
        return number

    def flag(self, name: str) -> bool:
        """True only where it is said."""
        return self._typed(name, bool, "true or false") is True

    def label(self, name: str) -> str | None:
        """The number or name of something on a site, as text."""
        value = self.values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
            return str(value)
        return self.text(name)

    def words(self, name: str) -> tuple[str, ...]:
        """The texts of a list, each once; one text by itself counts as a list of it."""
        value = self.values.get(name)
        listed = [value] if isinstance(value, str) else self.items(name)
        words = [clean(item) for item in listed if isinstance(item, str)]
        if len(words) != len(listed):
            self._note(name, "a list of texts")
        return tuple(dict.fromkeys(word for word in words if word))

    def items(self, name: str) -> list[object]:
        """A list, of which at most `MAX_ITEMS` are used."""
        value = self._typed(name, list, "a list")
        listed = value if isinstance(value, list) else []
        if len(listed) > MAX_ITEMS:
            self.problems.append(f"{self.place}{name} has {len(listed)} entries, {MAX_ITEMS} used")
        return listed[:MAX_ITEMS]

    def inside(self, name: str) -> Fields:
        """The object under a name, empty if there is none."""
        value = self._typed(name, dict, "an object")
        inner = value if isinstance(value, dict) else {}
        return Fields(self.path, inner, self.problems, f"{self.place}{name}.")

    def objects(self, name: str) -> list[Fields]:
        """The objects of a list."""
        listed = enumerate(self.items(name))
        return [
            Fields(self.path, item, self.problems, f"{self.place}{name}.{number}.")
            for number, item in listed
            if isinstance(item, dict)
        ]

    def hashes(self, *, without: frozenset[str] = frozenset()) -> dict[str, str]:
        """The values of this object that are hashes by name and form, by our names for them."""
        found: dict[str, str] = {}
        for key in self.values:
            name = key.lower()
            if name not in _DIGITS or name in without:
                continue
            digest = (self.text(key) or "").lower()
            if is_hash(name, digest):
                found[name] = digest
            elif digest:
                self._note(key, "a hash")
        return found

    def _typed(self, name: str, wanted: type, description: str) -> object:
        value = self.values.get(name)
        if value is not None and not isinstance(value, wanted):
            self._note(name, description)
            return None
        return value

    def _note(self, name: str, description: str) -> None:
        note = f"{self.place}{clean(name)[:80]} is not {description}"
        if len(self.problems) < MAX_ITEMS and note not in self.problems:
            self.problems.append(note)


def is_hash(name: str, digest: str) -> bool:
    """Whether a text has the form of the hash of this name."""
    return len(digest) in _DIGITS[name] and set(digest) <= set("0123456789abcdef")


def _parse(text: str) -> dict[str, object]:
    if _PAGE.match(text):
        raise BadDocument("is a web page, not JSON")
    if sum(1 for _ in _MARKS.finditer(text)) > MAX_VALUES:
        raise BadDocument(f"holds more than {MAX_VALUES} values")
    try:
        parsed = json.loads(text)
    except RecursionError:
        raise BadDocument("is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise BadDocument(f"is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise BadDocument("is JSON, but not an object")
    return parsed
