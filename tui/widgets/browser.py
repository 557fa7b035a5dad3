"""Finding: tabs, filter and list over one view of the library, with the details beside the list."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.message import Message
from textual.widget import Widget
from textual.worker import Worker

from converters.errors import BadValue, Cancelled
from converters.progress import Progress
from registry.list_records import AssetRow
from tui.background import Latest, hold_keys, in_background
from tui.commands import Commands
from tui.faults import Part
from tui.listing import PAGE_ROWS, Listing, Place
from tui.query import TABS, View, tab_counts
from tui.text import plain
from tui.widgets.asset_list import AssetList
from tui.widgets.covered import CoveredHorizontal, CoveredVertical
from tui.widgets.facets_panel import FacetsPanel
from tui.widgets.filter_bar import FilterBar, FilterInput
from tui.widgets.kind_tabs import KindTabs
from tui.widgets.list_header import ListHeader

FACETS_SETTLE_SECONDS = 0.15
"""How long the list rests before its facets are counted."""


class Browser(Part):
    """Shows one view of the library; every change of the view is a search in a thread."""

    BLANK: ClassVar[bool] = True  # its children cover it

    class Counted(Message):
        """The library holds so many assets."""

        def __init__(self, total: int) -> None:
            super().__init__()
            self.total = total

    class Viewed(Message):
        """Another view is shown."""

        def __init__(self, view: View) -> None:
            super().__init__()
            self.view = view

    def __init__(
        self,
        commands: Commands,
        beside: Widget,
        view: View | None = None,
        place: Place | None = None,
        *,
        tiled: bool = False,
        pictures: bool = True,
    ) -> None:
        """`pictures` says whether tiles show any."""
        super().__init__(classes="-tiled" if tiled else "")
        self._find_picture = commands.picture if pictures else None
        self._commands = commands
        self._beside = beside
        self._view = view or View()
        self._first = place or Place()
        self._searching, self._counting = Latest(), Latest()
        self._worker: Worker[None] | None = None

    def compose(self) -> ComposeResult:
        """Tabs and filter over the list and what is beside it."""
        yield KindTabs()
        yield FilterBar(self._view.text)
        with CoveredHorizontal(id="middle"):
            yield FacetsPanel()
            with CoveredVertical(id="list-column"):
                yield ListHeader()
                tiled = self.has_class("-tiled")
                yield AssetList(self._commands.page, self._find_picture, tiled=tiled)
            yield self._beside

    def on_mount(self) -> None:
        """A message would come after the frame with the letter, and what it finds in another.

        What happens then is the list's doing: messages stop at the widget that they are said by.
        """
        typed = self.query_one(FilterInput)
        self.query_one(AssetList).watch(typed, "value", self._filter_typed, init=False)

    # ---- what the screen tells it

    def begin(self) -> None:
        """The first rows, and then the counts."""
        in_background(self, partial(self._begin, self._view, self._first), group="begin")

    def reload(self) -> None:
        """Counts and rows anew; the cursor stays on its asset."""
        in_background(self, self._count, group="count")
        self.query_one(AssetList).forget_pictures()
        self._search(self._view, self.place)

    def turn_tab(self, steps: int) -> None:
        """To the kind at the right or left."""
        self._search(self._view.turned(steps))

    def sort(self, by: str) -> None:
        """In this order, or the other way round."""
        self._search(self._view.sorted_by(by))

    @property
    def view(self) -> View:
        """What is shown, or is about to be."""
        return self._view

    def go_to(self, view: View) -> None:
        """Show another view, its filter in the line."""
        self._view = view
        bar = self.query_one(FilterBar)
        if bar.text == view.text:
            self._search(view)
        else:
            bar.text = view.text  # which searches

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

    @property
    def place(self) -> Place:
        """Where the cursor stands; until there is a list, where it stood at the last end."""
        assets = self.query_one(AssetList)
        if not assets.loaded:
            return self._first
        return Place(assets.cursor, 0 if self.current is None else self.current.id)

    @property
    def tiled(self) -> bool:
        """Whether the assets are tiles of a grid, not lines."""
        return self.query_one(AssetList).tiled

    @tiled.setter
    def tiled(self, tiled: bool) -> None:
        self.set_class(tiled, "-tiled")
        self.query_one(AssetList).tiled = tiled

    # ---- facets

    @property
    def shows_facets(self) -> bool:
        """Whether the facets are to be seen."""
        return self.has_class("-facets")

    def show_facets(self, shown: bool) -> None:
        """Show the facets, or hide them."""
        self.set_class(shown, "-facets")
        if shown:
            self._count_facets()
        else:
            self._counting.stop()

    def focus_facets(self) -> None:
        """Give the keyboard to the facets."""
        self.query_one(FacetsPanel).focus()

    def _count_facets(self) -> None:
        if self.shows_facets:
            work = partial(self._facets, self._view, self._counting.begin())
            in_background(self, work, group="facets")

    async def _facets(self, view: View, progress: Progress) -> None:
        await asyncio.sleep(FACETS_SETTLE_SECONDS)
        try:
            found = await asyncio.to_thread(self._commands.facets, view, progress)
        except (BadValue, Cancelled):
            return
        self.query_one(FacetsPanel).tell(found, view.text)

    @on(FacetsPanel.Toggled)
    def _facet_chosen(self, message: FacetsPanel.Toggled) -> None:
        message.stop()
        self.go_to(self._view.toggled(message.term))

    # ---- searching

    async def _begin(self, view: View, stay: Place) -> None:
        """The rows that are there without opening the library stay; else they are searched for."""
        first = await asyncio.to_thread(self._without_opening, view, stay)
        if self._worker is None:  # else other rows were asked for meanwhile
            if first is None:
                self._search(view, stay)
            else:
                self._show(first, stay)
                await self._painted()  # opening takes the interpreter from the frame
        in_background(self, self._count, group="count")

    def _without_opening(self, view: View, stay: Place) -> Listing | None:
        number = stay.row // PAGE_ROWS
        page = self._commands.without_opening(view, number * PAGE_ROWS, PAGE_ROWS)
        return Listing(view, page.rows, page.total, number) if page and page.rows else None

    async def _count(self) -> None:
        counts = tab_counts(await asyncio.to_thread(self._commands.kinds))
        self.query_one(KindTabs).counts = counts
        self.post_message(self.Counted(counts[0]))

    def _search(self, view: View, stay: Place | None = None) -> None:
        """A key after this means the rows that come; but who types a filter is not waited for."""
        self._view = view
        work = partial(self._list, view, stay, self._searching.begin())
        self._worker = in_background(self, work, group="search")
        if stay is None and not self.query_one(FilterBar).has_focus_within:
            hold_keys(self, self._worker)

    async def _list(self, view: View, stay: Place | None, progress: Progress) -> None:
        """Show rows as soon as they are known, and then how many there are."""
        try:
            listing = await asyncio.to_thread(self._find, view, stay, progress)
        except BadValue as error:
            if not self.query_one(AssetList).loaded:  # a remembered filter means nothing any more
                await self._list(replace(view, text=""), stay, progress)
            self.query_one(FilterBar).refuse(plain(error.cause))
            return
        self._show(listing, stay)
        await self._tell_total(listing, progress)

    def _list_at_once(self, view: View) -> bool:
        """Show the first rows together with the letter that finds them, if they come that soon."""
        try:
            first = self._commands.at_once(view, PAGE_ROWS)
        except BadValue:  # of which a search tells
            return False
        if first is None:
            return False
        self._view = view
        listing = Listing(view, first.rows, first.total)
        self._show(listing, None)
        work = partial(self._tell_total, listing, self._searching.begin())
        self._worker = in_background(self, work, group="search")
        return True

    async def _tell_total(self, listing: Listing, progress: Progress) -> None:
        if listing.total is None:
            await self._painted()  # counting takes the interpreter from the frame
            listing.total = await asyncio.to_thread(self._commands.number, listing.view, progress)
            self.query_one(AssetList).recount()
        self._tell_number(listing)

    async def _painted(self) -> None:
        painted = asyncio.Event()
        self.call_after_refresh(painted.set)
        await painted.wait()

    def _find(self, view: View, stay: Place | None, progress: Progress) -> Listing:
        """In a thread: the page on which the cursor stays, or the first."""
        number = stay.row // PAGE_ROWS if stay else 0
        if number:
            page = self._commands.page(view, number * PAGE_ROWS, PAGE_ROWS)
            if page.rows:  # else there are fewer now
                return Listing(view, page.rows, page.total, number)
        first = self._commands.beginning(view, PAGE_ROWS, progress)
        return Listing(view, first.rows, first.total)

    def _tell_number(self, listing: Listing) -> None:
        number = "…" if listing.total is None else f"{listing.total:,}"
        found = f"{number} found" if listing.view.text.strip() else ""
        self.query_one(FilterBar).tell(found)

    def _show(self, listing: Listing, stay: Place | None) -> None:
        view, assets = listing.view, self.query_one(AssetList)
        stay = self.place if stay else None  # the cursor may have moved meanwhile
        found = listing.find(stay.asset) if stay else None
        self.query_one(ListHeader).order = view.order
        self.query_one(KindTabs).active = view.tab
        self._tell_number(listing)
        cursor = stay.row if stay and found is None else found or 0
        assets.show(listing, cursor, _empty_note(view))
        self._count_facets()
        self.post_message(self.Viewed(view))

    # ---- what its parts say

    def _filter_typed(self) -> None:
        view = replace(self._view, text=self.query_one(FilterBar).text)
        if not self._list_at_once(view):
            self._search(view)

    @on(FilterBar.Left)
    def _filter_left(self, message: FilterBar.Left) -> None:
        message.stop()
        self.focus_list()
        if self._worker is not None:
            hold_keys(self, self._worker)

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
        "R indexes a folder of models, as does",
        "assetmgr scan FOLDER",
        "",
        "r scans the known folders again.",
        "assetmgr demo builds a small library to try.",
    )
