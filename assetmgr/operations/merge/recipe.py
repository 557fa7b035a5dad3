"""A merge of checkpoints as readable text: TOML with the inputs pinned by their hashes.

The text lies in the metadata of the merged file, under RECIPE_KEY, and can be written by hand:

    version = 1
    operation = "merge checkpoints"
    title = "blend"
    method = "weighted-sum"
    alpha = 0.4
    dtype = "keep"

    [components]
    vae = "B"

    [[models]]
    label = "A"
    file = "first.safetensors"
    sha256 = "…"
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from assetmgr.operations.convert.change import DTYPES
from converters.errors import BadValue
from converters.merge.checkpoints import METHODS
from converters.merge.checkpoints.choice import LABELS, MergeChoice, Weights
from converters.statedict import Plain
from converters.transform.cast import OnOverflow
from converters.transform.metadata import Parent

RECIPE_KEY = "assetmgr.recipe"
"""Metadata key of the text."""

OPERATION = "merge checkpoints"
_VERSION = 1
_CLAMP = OnOverflow.CLAMP.value
LARGEST_TEXT = 1 << 20
_NUMBERS = ("beta", "density", "drop")
_KEYS = {
    *("version", "operation", "title", "method", "alpha", "alpha_of", "block_weights", "seed"),
    *("dtype", "on_overflow", "components", "models", *_NUMBERS),
}
_DIGESTS = ("sha256", "blake3", "autov3")
_DIGEST = re.compile("[0-9a-f]{64}", re.IGNORECASE)
_MODEL_KEYS = {"label", "file", *_DIGESTS}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A merge that can be made again: what was chosen, of which files, under which title."""

    title: str
    choice: MergeChoice
    models: tuple[Parent, ...]


def parameters(choice: MergeChoice) -> dict[str, Plain]:
    """What was chosen, as recorded in lineage and recipes; what was not given is left out."""
    alpha = choice.alpha
    chosen: dict[str, Plain] = {"method": choice.method}
    if alpha.default is not None:
        chosen["alpha"] = alpha.default
    chosen |= {
        name: value for name in (*_NUMBERS, "seed") if (value := getattr(choice, name)) is not None
    }
    if alpha.blocks:
        chosen["block_weights"] = list(alpha.blocks)
    chosen["dtype"] = next(word for word, dtype in DTYPES.items() if dtype is choice.dtype)
    if choice.clamped:
        chosen["on_overflow"] = _CLAMP
    if alpha.components:
        chosen["alpha_of"] = dict(sorted(alpha.components.items()))
    if choice.sources:
        sources = sorted(choice.sources.items())
        chosen["components"] = {part: LABELS[position] for part, position in sources}
    return chosen


def recipe_text(recipe: Recipe) -> str:
    """The recipe as TOML, the same text for the same recipe."""
    return "\n".join(_lines(recipe)) + "\n"


def _lines(recipe: Recipe) -> Iterator[str]:
    head = {"version": _VERSION, "operation": OPERATION, "title": recipe.title}
    chosen = {**head, **parameters(recipe.choice)}
    tables = {key: value for key, value in chosen.items() if isinstance(value, dict)}
    for key, value in chosen.items():
        if key not in tables:
            yield f"{key} = {_toml(value)}"
    for key, table in tables.items():
        yield from ("", f"[{key}]")
        yield from (f"{name} = {_toml(value)}" for name, value in table.items())
    for label, model in zip(LABELS, recipe.models, strict=False):
        yield from ("", "[[models]]", f"label = {_toml(label)}", f"file = {_toml(model.name)}")
        for name in _DIGESTS:
            if (digest := getattr(model, name)) is not None:
                yield f"{name} = {_toml(digest)}"


def _toml(value: object) -> str:
    """A text, a number or a list of numbers; JSON's words for them are TOML's, but for DEL."""
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()  # names that are no Unicode
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007F")


def read_recipe(text: str, origin: Path) -> Recipe:
    """The recipe of a text; `origin` names it in errors. Raises BadValue naming the wrong key."""
    table = _Table(_parsed(text, origin), origin)
    table.require_known(_KEYS)
    if table.integer("version") != _VERSION or table.text("operation") != OPERATION:
        raise BadValue(f"is no recipe of version {_VERSION} of '{OPERATION}'", path=origin)
    models = table.tables("models")
    for position, model in enumerate(models):
        model.require_known(_MODEL_KEYS)
        if model.text("label") != LABELS[position : position + 1]:
            raise BadValue("the models must be labelled A, B, C, … in their order", path=origin)
    pinned = tuple(map(_pinned, models))
    return Recipe(table.text("title") or "", _choice(table), pinned)


def _parsed(text: str, origin: Path) -> Mapping[str, object]:
    if len(text) > LARGEST_TEXT:
        raise BadValue("is too long for a recipe", path=origin)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadValue(f"is not TOML: {error}", path=origin) from error


def _choice(table: _Table) -> MergeChoice:
    method, word = table.text("method"), table.text("dtype") or "keep"
    if method not in METHODS:
        raise BadValue(f"unknown method '{method}'", path=table.origin)
    if word not in DTYPES:
        raise BadValue(f"dtype '{word}' is none of {', '.join(DTYPES)}", path=table.origin)
    if table.text("on_overflow") not in (None, _CLAMP, OnOverflow.FAIL.value):
        raise BadValue(f"on_overflow is neither fail nor {_CLAMP}", path=table.origin)
    weights, sources = table.inner("alpha_of"), table.inner("components")
    components = {part: weights.number(part) or 0.0 for part in weights.entries}
    return MergeChoice(
        method,
        Weights(table.number("alpha"), components, table.numbers("block_weights")),
        table.number("beta"),
        table.number("density"),
        table.number("drop"),
        table.integer("seed"),
        {part: position_of(sources.text(part) or "") for part in sources.entries},
        DTYPES[word],
        clamped=table.text("on_overflow") == _CLAMP,
    )


def position_of(label: str) -> int:
    """The position of the model with a label. Raises BadValue."""
    if len(label) != 1 or label not in LABELS:
        raise BadValue(f"{label!r} is no label of a model: they are A, B, C, …")
    return LABELS.index(label)


def _pinned(model: _Table) -> Parent:
    file = model.text("file")
    sha256, blake3, autov3 = (model.text(name) for name in _DIGESTS)
    if not file or not (sha256 or blake3):
        raise BadValue("every model needs its file and its sha256 or blake3", path=model.origin)
    for digest in filter(None, (sha256, blake3)):
        if not _DIGEST.fullmatch(digest):
            raise BadValue(f"{digest!r} is no hash of 64 hex digits", path=model.origin)
    return Parent(file, sha256, blake3, autov3)


class _Table:
    """A table of TOML whose values are asked for by type; None where there is none."""

    def __init__(self, entries: Mapping[str, object], origin: Path) -> None:
        self.entries, self.origin = entries, origin

    def require_known(self, keys: set[str]) -> None:
        """Raises BadValue for an entry that means nothing."""
        for key in self.entries:
            if key not in keys:
                raise BadValue(f"unknown key '{key}'", path=self.origin)

    def text(self, key: str) -> str | None:
        """A text. Raises BadValue."""
        value = self.entries.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(key, "a text")

    def integer(self, key: str) -> int | None:
        """A whole number. Raises BadValue."""
        value = self.entries.get(key)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._wrong(key, "a whole number")

    def number(self, key: str) -> float | None:
        """A number. Raises BadValue."""
        value = self.entries.get(key)
        return None if value is None else self._as_number(key, value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers. Raises BadValue."""
        values = self.entries.get(key, [])
        if not isinstance(values, list):
            raise self._wrong(key, "a list of numbers")
        return tuple(self._as_number(key, value) for value in values)

    def inner(self, key: str) -> _Table:
        """A table, empty where there is none. Raises BadValue."""
        value = self.entries.get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, "a table")
        return _Table(value, self.origin)

    def tables(self, key: str) -> list[_Table]:
        """A list of tables. Raises BadValue."""
        values = self.entries.get(key, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            raise self._wrong(key, "a list of tables")
        return [_Table(value, self.origin) for value in values]

    def _as_number(self, key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number")
        return float(value)

    def _wrong(self, key: str, kind: str) -> BadValue:
        return BadValue(f"'{key}' must be {kind}", path=self.origin)
