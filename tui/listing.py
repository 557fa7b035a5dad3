"""One search result, held a page at a time, so that a library of any size opens at once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from registry.list_records import AssetRow
from tui.query import View

PAGE_ROWS = 64
_PAGES_HELD = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where a cursor stands: in which row, and on which asset (0: none)."""

    row: int = 0
    asset: int = 0


class Listing:
    """The rows of one view of the library; pages not yet fetched answer with None.

    `total` is None as long as it is not known how many follow the first page.
    """

    def __init__(
        self, view: View, rows: tuple[AssetRow, ...], total: int | None, number: int = 0
    ) -> None:
        self.view = view
        self.total = total
        self._pages = OrderedDict({number: rows})
        self._asked: set[int] = set()
        self._known = len(rows)

    @property
    def count(self) -> int:
        """How many rows there are, as far as that is known."""
        return self._known if self.total is None else self.total

    def row(self, index: int) -> AssetRow | None:
        """The row at `index`, if its page is here."""
        number, within = divmod(index, PAGE_ROWS)
        page = self._pages.get(number)
        if page is None or not 0 <= within < len(page):
            return None
        self._pages.move_to_end(number)
        return page[within]

    def lacking(self, first: int, last: int) -> list[int]:
        """The pages of rows `first`..`last` that nobody has asked for; the caller fetches them."""
        numbers = range(max(first, 0) // PAGE_ROWS, max(last, 0) // PAGE_ROWS + 1)
        new = [n for n in numbers if n not in self._pages and n not in self._asked]
        self._asked.update(new)
        return new

    def forget(self, number: int) -> None:
        """A page did not come; whoever needs it asks again."""
        self._asked.discard(number)

    def add(self, number: int, rows: tuple[AssetRow, ...]) -> None:
        """Keep a fetched page; the page unused for longest goes."""
        self._asked.discard(number)
        self._pages[number] = rows
        if len(self._pages) > _PAGES_HELD:
            self._pages.popitem(last=False)

    def find(self, asset_id: int) -> int | None:
        """Where an asset stands among the pages that are here."""
        for number, page in self._pages.items():
            for within, row in enumerate(page):
                if row.id == asset_id:
                    return number * PAGE_ROWS + within
        return None
