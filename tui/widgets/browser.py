"""Finding: tabs, filter and list over one view of the library, with the details beside the list."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widget import Widget

from converters.errors import BadValue
from registry.records import AssetRow
from tui.background import in_background
from tui.commands import Commands
from tui.listing import PAGE_ROWS, Listing
from tui.query import TABS, View, tab_counts
from tui.text import plain
from tui.widgets.asset_list import AssetList
from tui.widgets.filter_bar import FilterBar
from tui.widgets.kind_tabs import KindTabs
from tui.widgets.list_header import ListHeader


class Browser(Widget):
    """Shows one view of the library; every change of the view is a search in a thread."""

    class Counted(Message):
        """The library holds so many assets."""

        def __init__(self, total: int) -> None:
            super().__init__()
            self.total = total

    def __init__(self, commands: Commands, beside: Widget) -> None:
        super().__init__()
        self._commands = commands
        self._beside = beside
        self._view = View()

    def compose(self) -> ComposeResult:
        """Tabs and filter over the list and what is beside it."""
        yield KindTabs()
        yield FilterBar()
        with Horizontal(id="middle"):
            with Vertical(id="list-column"):
                yield ListHeader()
                yield AssetList(self._commands.page)
            yield self._beside

    # ---- what the screen tells it

    def reload(self) -> None:
        """Counts and rows anew; the cursor stays on its asset."""
        in_background(self, self._count, group="count")
        self._search(self._view, self.current)

    def turn_tab(self, steps: int) -> None:
        """To the kind at the right or left."""
        self._search(self._view.turned(steps))

    def sort(self, by: str) -> None:
        """In this order, or the other way round."""
        self._search(self._view.sorted_by(by))

    def start_filter(self) -> None:
        """Let the filter be typed."""
        self.query_one(FilterBar).start()

    def clear_filter(self) -> None:
        """Show everything of the kind."""
        self.query_one(FilterBar).clear()
        self.focus_list()

    def focus_list(self) -> None:
        """Give the keyboard to the list."""
        self.query_one(AssetList).focus()

    @property
    def current(self) -> AssetRow | None:
        """The row under the cursor."""
        return self.query_one(AssetList).current

    # ---- searching

    async def _count(self) -> None:
        counts = tab_counts(await asyncio.to_thread(self._commands.kinds))
        self.query_one(KindTabs).counts = counts
        self.post_message(self.Counted(counts[0]))

    def _search(self, view: View, stay: AssetRow | None = None) -> None:
        self._view = view
        in_background(self, partial(self._list, view, stay), group="search")

    async def _list(self, view: View, stay: AssetRow | None) -> None:
        try:
            page = await asyncio.to_thread(self._commands.page, view, 0, PAGE_ROWS)
        except BadValue as error:
            self.query_one(FilterBar).refuse(plain(error.cause))
            return
        self._show(Listing(view, page), stay)

    def _show(self, listing: Listing, stay: AssetRow | None) -> None:
        view, assets = listing.view, self.query_one(AssetList)
        found = listing.find(stay.id) if stay else None
        self.query_one(ListHeader).view = view
        self.query_one(KindTabs).active = view.tab
        self.query_one(FilterBar).tell(f"{listing.total:,} found" if view.text.strip() else "")
        cursor = assets.cursor if stay and found is None else found or 0
        assets.show(listing, cursor, _empty_note(view))

    # ---- what its parts say

    @on(FilterBar.Changed)
    def _filter_typed(self, message: FilterBar.Changed) -> None:
        message.stop()
        self._search(replace(self._view, text=message.text))

    @on(FilterBar.Left)
    def _filter_left(self, message: FilterBar.Left) -> None:
        message.stop()
        self.focus_list()

    @on(KindTabs.Chosen)
    def _tab_clicked(self, message: KindTabs.Chosen) -> None:
        message.stop()
        self._search(replace(self._view, tab=message.tab))

    @on(ListHeader.SortChosen)
    def _title_clicked(self, message: ListHeader.SortChosen) -> None:
        message.stop()
        self.sort(message.sort)


def _empty_note(view: View) -> tuple[str, ...]:
    """What an empty list says: always also what to do next."""
    if view.text.strip():
        return (f"Nothing matches  {plain(view.text.strip())}", "", "Esc clears the filter.")
    if TABS[view.tab].kind is not None:
        return (f"No {TABS[view.tab].title} here.", "", "[ and ] turn to other kinds.")
    return (
        "This library is empty.",
        "",
        "Index a folder of models first:",
        "assetmgr scan FOLDER",
        "",
        "Press r to scan the known folders again.",
        "assetmgr demo builds a small library to try.",
    )
