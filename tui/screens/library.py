"""The library screen: what is found, in which order, and what is remembered of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType

from assetmgr.operations.preferences import Preferences, SavedSearch
from converters.errors import BadValue
from tui import keymap
from tui.background import in_background, in_turn
from tui.commands import Commands
from tui.images import MakePicture
from tui.jobs import JobQueue
from tui.listing import Place
from tui.query import SORTS, View, view_of
from tui.screens.acting import ActingScreen
from tui.text import count, plain
from tui.widgets.asset_list import AssetList
from tui.widgets.browser import Browser
from tui.widgets.details import Details
from tui.widgets.facets_panel import FacetsPanel
from tui.widgets.filter_bar import FilterBar, FilterInput
from tui.widgets.footer import Footer
from tui.widgets.jobs_pane import JobsPane
from tui.widgets.title_bar import TitleBar

OPENED_SECONDS = 0.5
"""After the library was counted its rows are painted before anything else is looked up."""


class LibraryScreen(ActingScreen):
    """Everything at once; dialogs come over it."""

    BINDINGS: ClassVar[list[BindingType]] = keymap.screen_bindings()
    BLANK: ClassVar[bool] = True  # its children cover it
    AUTO_FOCUS = "AssetList"
    GROUPS: ClassVar = keymap.GROUPS

    def __init__(
        self,
        commands: Commands,
        queue: JobQueue,
        make_picture: MakePicture | None,
        preferences: Preferences,
    ) -> None:
        super().__init__(commands, queue, make_picture)
        self._total: int | None = None
        self.preferences = preferences

    def compose(self) -> ComposeResult:
        """Top to bottom."""
        known = self.preferences
        yield TitleBar(plain(self._commands.library_name))
        yield Browser(
            self._commands,
            Details(self._commands, self._make_picture, (known.asset, known.line)),
            view_of(known.kind, known.query, known.sort),
            Place(known.row, known.asset),
            tiled=known.tiles,
            pictures=self._make_picture is not None,
        )
        yield JobsPane(self._queue)
        yield Footer()

    def on_mount(self) -> None:
        """Open the library, once the first frame is there."""
        if self.preferences.facets:
            self._browser.show_facets(True)
        self.call_after_refresh(self._browser.begin)

    @on(Browser.Counted)
    def _counted(self, message: Browser.Counted) -> None:
        first, self._total = self._total is None, message.total
        self._show_totals()
        if first and not message.total and not self.preferences.welcomed:
            in_background(self, self._welcome, group="welcome")
        elif first:
            in_background(self, self._tell_waiting, group="welcome")

    async def _tell_waiting(self) -> None:
        """What was left in the queue of downloads does not run by itself."""
        await asyncio.sleep(OPENED_SECONDS)
        waiting = await asyncio.to_thread(self._commands.downloads.waiting)
        if waiting:
            self._say(f"{count(waiting, 'download')} left in the queue: J, then r, runs it")

    async def _welcome(self) -> None:
        """Offer the folders of other programs, once."""
        from tui.screens.welcome import WelcomeScreen

        folders = await asyncio.to_thread(self._commands.installed)
        self._remember(replace(self.preferences, welcomed=True))
        self.app.push_screen(WelcomeScreen(folders), self.scan_folders)

    @on(AssetList.Marked)
    def _marked(self) -> None:
        self._show_totals()

    def _show_totals(self) -> None:
        marks = self._list.marks
        marked = f"{len(marks):,} marked · " if marks else ""
        self.query_one(TitleBar).totals = marked + count(self._total or 0, "asset")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While the filter is typed, `/` is a letter."""
        return not (action == "focus_filter" and isinstance(self.focused, FilterInput))

    # ---- finding

    def reload(self) -> None:
        """The library has changed."""
        self._browser.reload()

    def find(self, query: str) -> None:
        """Show what a query finds, of every kind."""
        self._browser.go_to(View(text=query))

    def action_focus_filter(self) -> None:
        """Type a filter."""
        self._browser.start_filter()

    def action_clear(self) -> None:
        """Back to the list; there, unmark everything, then empty the filter."""
        if self.focused is not self._list:
            self.remove_class("-reading")
            self._browser.focus_list()
        elif not self._list.clear_marks():
            self._browser.clear_filter()

    def action_turn_tab(self, steps: int) -> None:
        """The kind at the right or left."""
        self._browser.turn_tab(steps)

    def action_sort(self, by: str) -> None:
        """In this order, or the other way round."""
        self._browser.sort(by)

    def action_sort_menu(self) -> None:
        """Choose an order."""
        from tui.screens.choose import Choice, ChooseScreen

        choices = [Choice(word[0], word, "", word) for word in SORTS]
        self.app.push_screen(ChooseScreen("Sort by", choices, "again: other way"), self._sort_by)

    def _sort_by(self, word: str | None) -> None:
        if word is not None:
            self._browser.sort(word)

    def action_tiles(self) -> None:
        """The grid, or the list."""
        self._browser.tiled = not self._browser.tiled

    @property
    def shows_tiles(self) -> bool:
        """Whether the grid is shown."""
        return self._browser.tiled

    def action_facets(self) -> None:
        """Show the facets and go to them; from there, hide them."""
        shown = self._browser.shows_facets
        if shown and isinstance(self.focused, FacetsPanel):
            self._browser.show_facets(False)
            self._browser.focus_list()
        else:
            self._browser.show_facets(True)
            self.call_after_refresh(self._browser.focus_facets)

    @on(AssetList.Highlighted)
    def _selected(self, message: AssetList.Highlighted) -> None:
        self._details.load(message.row)

    @on(FilterBar.Changed)
    def _letter_typed(self) -> None:
        self._details.put_off()

    @on(AssetList.Opened)
    def _opened(self, message: AssetList.Opened) -> None:
        if message.source is self._list:
            self.add_class("-reading")
            self._details.start_reading()

    @property
    def view(self) -> View:
        """What the list shows."""
        return self._browser.view

    @property
    def place(self) -> Place:
        """Where the cursor stands."""
        return self._browser.place

    @property
    def line(self) -> int:
        """From which line on the details are shown."""
        return self._details.line

    @property
    def shows_facets(self) -> bool:
        """Whether the facets are to be seen."""
        return self._browser.shows_facets

    def action_duplicates(self) -> None:
        """What is there more than once."""
        from tui.screens.duplicates import DuplicatesScreen

        self.app.push_screen(DuplicatesScreen(self._commands, self._queue), self._found_elsewhere)

    def _found_elsewhere(self, query: str | None) -> None:
        if query is not None:
            self.find(query)

    # ---- saved searches

    def action_searches(self) -> None:
        """Open a saved search, keep the one that is shown, or remove one."""
        from tui.screens.choose import Choice, ChooseScreen

        choices = [
            Choice(str(n) if n < 10 else "", search.name, search.query, search.name)
            for n, search in enumerate(self.preferences.searches, 1)
        ]
        hint = "+ keeps this one · - removes"
        screen = ChooseScreen("Saved searches", choices, hint, extra=("+", "-"))
        self.app.push_screen(screen, self._search_chosen)

    def _search_chosen(self, answer: str | None) -> None:
        from tui.screens.ask import AskScreen

        if answer is None:
            return
        if answer.startswith("+:"):
            said = f"an empty line names it {plain(self.view.query)}" if self.view.query else ""
            self.app.push_screen(AskScreen("Name of this search", "", said), self._keep_search)
        elif answer.startswith("-:"):
            self._remember(self.preferences.without_search(answer[2:]))
        else:
            for search in self.preferences.searches:
                if search.name == answer:
                    self._browser.go_to(view_of("", search.query, search.sort))

    def _keep_search(self, name: str | None) -> None:
        if name is None:
            return
        search = SavedSearch(name.strip() or self.view.query, self.view.query, self.view.order)
        try:
            self._remember(self.preferences.with_search(search))
        except BadValue as error:
            self._say(plain(str(error)), "warning")
        else:
            self._say(f"kept: {plain(search.name)} (S opens it)")

    def _remember(self, preferences: Preferences) -> None:
        self.preferences = preferences
        in_turn(self, partial(self._keep, preferences), group="preferences")

    async def _keep(self, preferences: Preferences) -> None:
        await asyncio.to_thread(self._commands.keep, preferences)
