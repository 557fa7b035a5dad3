"""The terms of a query, each with its meaning in SQL and in Python."""

from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    cast,
    false,
    func,
    not_,
    select,
    true,
    union_all,
)

from registry.query.contains import Tagged, path_contains, search_text_contains
from registry.scanning.places import names_of
from registry.tables import schema
from registry.tables.states import MISSING, OFFLINE, PRESENT
from registry.text import fold, searchable, word_needle

if TYPE_CHECKING:
    from registry.records import Asset

SAFE = "safe"
NO_VERDICT = "none"
STORED_HASHES = ("blake3", "sha256", "crc32", "autov1", "autov3", "weights")
"""Hash columns; AutoV2 is the beginning of SHA-256 and needs none."""

_END = "g"
"""Greater than any hex digit."""

_other = schema.asset.alias().c

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "": operator.eq,
}
"""How a number is compared; the operators serve columns and plain numbers alike."""


class Term(Protocol):
    """One condition on assets."""

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""


@dataclass(frozen=True, slots=True)
class All:
    """Every one of some terms holds; without terms it always does."""

    terms: tuple[Term, ...]

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        words = [term.needle for term in self.terms if isinstance(term, Words)]
        others = (term.clause() for term in self.terms if not isinstance(term, Words))
        return and_(true(), search_text_contains(words), *others)

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return all(term.match(asset) for term in self.terms)


@dataclass(frozen=True, slots=True)
class Not:
    """A term does not hold."""

    term: Term

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return not_(func.coalesce(self.term.clause(), false()))

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return not self.term.match(asset)


@dataclass(frozen=True, slots=True)
class Words:
    """Name, name of a file, note, tag, trigger word, metadata or a sidecar contains the text."""

    text: str

    @property
    def needle(self) -> str:
        """What is looked for."""
        return word_needle(self.text)

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return search_text_contains([self.needle])

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        told = [text for sidecar in asset.sidecars for text in sidecar.texts]
        files = [name for file in asset.files for name in names_of(file.path)]
        words, metadata = asset.trigger_words, asset.metadata
        text = searchable(asset.name, asset.note, asset.tags, words, metadata, told, files)
        return self.needle in text


@dataclass(frozen=True, slots=True)
class Is:
    """A column of one word has this value: `kind:lora`."""

    column: str
    value: str

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return schema.asset.c[self.column] == self.value

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return bool(getattr(asset, self.column) == self.value)


@dataclass(frozen=True, slots=True)
class Safety:
    """The safety verdict is this one."""

    verdict: str

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return schema.asset.c.safety == self.verdict

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return asset.safety.verdict == self.verdict


@dataclass(frozen=True, slots=True)
class Number:
    """A numeric column compares so; an unknown number never does."""

    column: str
    comparison: str
    value: int

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        compare = COMPARISONS[self.comparison]
        clause: ColumnElement[bool] = compare(schema.asset.c[self.column], self.value)
        return clause

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        number = getattr(asset, self.column)
        return number is not None and bool(COMPARISONS[self.comparison](number, self.value))


@dataclass(frozen=True, slots=True)
class Tag:
    """The asset carries exactly this tag."""

    name: str

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return Tagged(fold(self.name))

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return fold(self.name) in asset.tags


@dataclass(frozen=True, slots=True)
class Algorithm:
    """This is among the algorithms of an adapter."""

    name: str

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`: the word, quoted, in the JSON list."""
        listed = cast(schema.asset.c.algorithm, Text)
        return listed.contains(json.dumps(self.name), autoescape=True)

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return self.name in asset.algorithm


@dataclass(frozen=True, slots=True)
class Hash:
    """Some hash begins so: of the asset, of a component, or one that is claimed and not refuted."""

    prefix: str

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`, as ranges that the indexes serve."""
        return schema.asset.c.id.in_(union_all(*self._known(), self._claimed()))

    def known(self) -> ColumnElement[bool]:
        """The same of what was found in the bytes alone."""
        return schema.asset.c.id.in_(union_all(*self._known()))

    def claimed(self) -> ColumnElement[bool]:
        """The same of what others claim, which was not compared with the bytes or agrees."""
        return schema.asset.c.id.in_(self._claimed())

    def _known(self) -> Iterator[Select[tuple[int]]]:
        part = schema.component.c
        for name in STORED_HASHES:
            yield select(_other.id).where(*self._begins(_other[name]))
        yield select(part.asset_id).where(*self._begins(part.digest))

    def _claimed(self) -> Select[tuple[int]]:
        claim = schema.candidate.c
        begins = self._begins(claim.digest)
        return select(claim.asset_id).where(*begins, claim.agrees.is_not(False))

    def _begins(self, column: ColumnElement[str]) -> tuple[ColumnElement[bool], ...]:
        return column >= self.prefix, column < self.prefix + _END

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        claimed = (claim.digest for claim in asset.claims if asset.believes(claim))
        known = (*asset.hashes.values(), *asset.component_digests.values(), *claimed)
        return any(value and value.startswith(self.prefix) for value in known)


@dataclass(frozen=True, slots=True)
class PathPart:
    """Some file's path contains the text."""

    text: str

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return path_contains(fold(self.text))

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return any(fold(self.text) in fold(file.path) for file in asset.files)


@dataclass(frozen=True, slots=True)
class PreviewVerdict:
    """The verdict of the preview is this one; `none` finds what was never rendered."""

    verdict: str

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        known = schema.asset.c.verdict
        return known.is_(None) if self.verdict == NO_VERDICT else known == self.verdict

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        verdict = NO_VERDICT if asset.preview is None else asset.preview.verdict
        return verdict == self.verdict


@dataclass(frozen=True, slots=True)
class Missing:
    """No file of the asset is there, nor on a disk that is not there now."""

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return schema.asset.c.state == MISSING

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return asset.state == MISSING


@dataclass(frozen=True, slots=True)
class Offline:
    """The asset lies only on disks that are not there now."""

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return schema.asset.c.state == OFFLINE

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return asset.state == OFFLINE


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same content lies in more than one place of a machine."""

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return schema.asset.c.copies > 1

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        places = Counter(file.machine for file in asset.files if file.state == PRESENT)
        return any(number > 1 for number in places.values())


@dataclass(frozen=True, slots=True)
class Contradicted:
    """Some file beside the model, or the cache it lies in, claims a hash that is not its own."""

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        claim = schema.candidate.c
        refuted = select(claim.asset_id).where(claim.agrees.is_(False))
        return schema.asset.c.id.in_(refuted)

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return not all(map(asset.believes, asset.claims))


@dataclass(frozen=True, slots=True)
class Unsafe:
    """The safety verdict is anything but safe."""

    def clause(self) -> ColumnElement[bool]:
        """The condition on rows of `asset`."""
        return schema.asset.c.safety != SAFE

    def match(self, asset: Asset) -> bool:
        """The same condition on a record."""
        return asset.safety.verdict != SAFE
