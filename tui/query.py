"""What the list shows: kind tab, filter text and order, as one frozen value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Tab:
    """A kind tab: its words (in full and for narrow terminals) and the kinds it shows."""

    title: str
    short: str
    kind: str | None


TABS = (
    Tab("All", "All", None),
    Tab("Checkpoints", "Ckpt", "checkpoint"),
    Tab("LoRAs", "LoRA", "lora"),
    Tab("Embeddings", "Embed", "embedding"),
    Tab("Hypernetworks", "Hyper", "hypernetwork"),
    Tab("VAEs", "VAE", "vae"),
    Tab("Other", "Other", "other"),
)
NAMED_KINDS = tuple(tab.kind for tab in TABS[1:-1] if tab.kind is not None)
"""Every kind that has a tab of its own; "Other" is the rest."""

DESCENDING_FIRST = frozenset({"size", "added", "updated", "rating"})
"""Orders in which people look for the greatest first."""

SORTS = ("name", "size", "added", "updated", "kind", "base", "rating", "verdict")
"""The orders that a list can have."""


@dataclass(frozen=True, slots=True)
class View:
    """A selection of the library in an order."""

    tab: int = 0
    text: str = ""
    sort: str = "name"
    descending: bool = False

    @property
    def query(self) -> str:
        """The selection in the query language."""
        return " ".join(part for part in (self._kind_query(), self.text.strip()) if part)

    def _kind_query(self) -> str:
        kind = TABS[self.tab].kind
        if kind is None:
            return ""
        if kind == "other":
            return " ".join(f"-kind:{named}" for named in NAMED_KINDS)
        return f"kind:{kind}"

    @property
    def order(self) -> str:
        """The order as the library takes it: a sort word, with "-" for descending."""
        return f"-{self.sort}" if self.descending else self.sort

    def sorted_by(self, sort: str) -> View:
        """In another order; the same order again turns its direction."""
        if sort == self.sort:
            return replace(self, descending=not self.descending)
        return replace(self, sort=sort, descending=sort in DESCENDING_FIRST)

    def toggled(self, term: str) -> View:
        """With a term of the query language in its filter, or without it where it is there."""
        if holds(self.text, term):
            rest = re.sub(_whole(term), "", self.text)
            return replace(self, text=re.sub(r"\s{2,}", " ", rest).strip())
        return replace(self, text=f"{self.text.strip()} {term}".strip())

    def turned(self, steps: int) -> View:
        """The tab `steps` to the right, around the ends."""
        return replace(self, tab=(self.tab + steps) % len(TABS))


def holds(text: str, term: str) -> bool:
    """Whether a term stands in a query by itself."""
    return re.search(_whole(term), text) is not None


def _whole(term: str) -> str:
    return rf"(?<!\S){re.escape(term)}(?!\S)"


def view_of(kind: str, text: str, sort: str) -> View:
    """The view of remembered words; what they do not name (any more) is as at first."""
    tab = next((n for n, tab in enumerate(TABS) if tab.kind == (kind or None)), 0)
    word = sort.removeprefix("-")
    if word not in SORTS:
        return View(tab, text)
    return View(tab, text, word, sort.startswith("-"))


def tab_counts(kinds: Mapping[str, int]) -> tuple[int, ...]:
    """How many assets each tab holds, from the library's number per kind."""
    total = sum(kinds.values())
    named = [kinds.get(kind, 0) for kind in NAMED_KINDS]
    return (total, *named, total - sum(named))
