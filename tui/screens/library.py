"""The library screen: what the keys do with the chosen assets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Footer

from assetmgr.operations.preferences import Preferences, SavedSearch
from converters.progress import SILENT, Progress
from registry.records import Asset, AssetRow
from tui import keymap
from tui.background import in_background
from tui.bridge import Job, Lane
from tui.commands import Commands
from tui.forms import Form, Planned
from tui.images import MakePicture
from tui.jobs import JobQueue
from tui.query import SORTS, View, view_of
from tui.sections import Section, text
from tui.text import count, plain
from tui.widgets.asset_list import AssetList
from tui.widgets.browser import Browser
from tui.widgets.details import Details
from tui.widgets.facets_panel import FacetsPanel
from tui.widgets.filter_bar import FilterInput
from tui.widgets.jobs_pane import JobsPane
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from assetmgr.operations.diff import Comparison
    from assetmgr.operations.doctor_check import Check

Severity = Literal["information", "warning", "error"]
_SHOWN = 12


class LibraryScreen(Screen[None]):
    """Everything at once; dialogs come over it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        binding for group in keymap.SCREEN for binding in group.bindings()
    ]
    AUTO_FOCUS = "AssetList"
    GROUPS: ClassVar = keymap.GROUPS

    def __init__(
        self,
        commands: Commands,
        queue: JobQueue,
        make_picture: MakePicture | None,
        preferences: Preferences,
    ) -> None:
        super().__init__()
        self._make_picture = make_picture
        self._commands, self._queue = commands, queue
        self._copied: tuple[int, str] | None = None
        self._total: int | None = None
        self.preferences = preferences

    def compose(self) -> ComposeResult:
        """Top to bottom."""
        known = self.preferences
        yield TitleBar(plain(self._commands.library_name))
        yield Browser(
            self._commands,
            Details(self._commands, self._make_picture),
            view_of(known.kind, known.query, known.sort),
        )
        yield JobsPane(self._queue)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Open the library, once the first frame is there."""
        if self.preferences.facets:
            self._browser.show_facets(True)
        self.call_after_refresh(self._browser.reload)

    @property
    def _browser(self) -> Browser:
        return self.query_one(Browser)

    @property
    def _list(self) -> AssetList:
        return self.query_one(AssetList)

    @property
    def _details(self) -> Details:
        return self.query_one(Details)

    def _say(self, sentence: str, severity: Severity = "information") -> None:
        self.notify(sentence, severity=severity, markup=False)

    @on(Browser.Counted)
    def _counted(self, message: Browser.Counted) -> None:
        first, self._total = self._total is None, message.total
        self._show_totals()
        if first and not message.total and not self.preferences.welcomed:
            in_background(self, self._welcome, group="welcome")

    async def _welcome(self) -> None:
        """Offer the folders of other programs, once."""
        from tui.screens.welcome import WelcomeScreen

        folders = await asyncio.to_thread(self._commands.installed)
        if folders:
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
    def shows_facets(self) -> bool:
        """Whether the facets are to be seen."""
        return self._browser.shows_facets

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
            query = self.view.query
            self.app.push_screen(AskScreen("Name of this search", plain(query)), self._keep_search)
        elif answer.startswith("-:"):
            self._remember(self.preferences.without_search(answer[2:]))
        else:
            for search in self.preferences.searches:
                if search.name == answer:
                    self._browser.go_to(view_of("", search.query, search.sort))

    def _keep_search(self, name: str | None) -> None:
        if name and name.strip():
            search = SavedSearch(name.strip(), self.view.query, self.view.order)
            self._remember(self.preferences.with_search(search))
            self._say(f"kept: {plain(name.strip())} (S opens it)")

    def _remember(self, preferences: Preferences) -> None:
        self.preferences = preferences
        in_background(self, partial(self._keep, preferences), group="preferences")

    async def _keep(self, preferences: Preferences) -> None:
        await asyncio.to_thread(self._commands.keep, preferences)

    # ---- acting on the chosen assets

    @property
    def _ids(self) -> tuple[int, ...]:
        return tuple(row.id for row in self._list.chosen)

    def _named(self, rows: Sequence[AssetRow]) -> str:
        return plain(rows[0].name) if len(rows) == 1 else count(len(rows), "asset")

    def _with_asset(self, act: Callable[[Asset], None]) -> None:
        """Do something with the asset under the cursor, whose details may still be on their way."""
        row, shown = self._browser.current, self._details.asset
        if row is not None and shown is not None and shown.id == row.id:
            act(shown)
        elif row is not None:
            in_background(self, partial(self._fetched, row.id, act), group="asset")

    async def _fetched(self, asset_id: int, act: Callable[[Asset], None]) -> None:
        act(await asyncio.to_thread(self._commands.asset, asset_id))

    def _change(self, change: Callable[[], object], said: str = "") -> None:
        """Change something in the library and show it."""
        in_background(self, partial(self._changed, change, said), group="change")

    async def _changed(self, change: Callable[[], object], said: str) -> None:
        await asyncio.to_thread(change)
        if said:
            self._say(said)
        self._browser.reload()

    def action_copy_hash(self) -> None:
        """AutoV2 first (what the sites search by), SHA-256 when pressed again."""
        self._with_asset(self._copy_hash)

    def _copy_hash(self, asset: Asset) -> None:
        name = "sha256" if self._copied == (asset.id, "autov2") else "autov2"
        digest = asset.hashes.get(name)
        if digest is None:
            self._say("no hash is known: rescan (r)", "warning")
            return
        self._copied = (asset.id, name)
        self.app.copy_to_clipboard(digest)
        self._say(f"{name} copied: {digest}")

    def action_copy_menu(self) -> None:
        """Choose what to copy."""
        self._with_asset(self._choose_copy)

    def _choose_copy(self, asset: Asset) -> None:
        from tui.copying import copyable
        from tui.screens.choose import ChooseScreen

        screen = ChooseScreen(f"Copy of {plain(asset.name)}", copyable(asset))
        self.app.push_screen(screen, self._copy)

    def _copy(self, what: str | None) -> None:
        if what is not None:
            self.app.copy_to_clipboard(what)
            self._say(f"copied: {plain(what)[:200]}")

    def action_tags(self) -> None:
        """Edit the tags of one asset; add and remove tags of many."""
        from tui.screens.ask import AskScreen

        rows = self._list.chosen
        if len(rows) == 1:
            self._with_asset(self._edit_tags)
        elif rows:
            title = f"Tags of {self._named(rows)}"
            screen = AskScreen(title, "", "tag, -tag: added, removed")
            self.app.push_screen(screen, partial(self._tag_many, self._ids))

    def _edit_tags(self, asset: Asset) -> None:
        from tui.screens.ask import AskScreen

        screen = AskScreen(
            f"Tags of {plain(asset.name)}", ", ".join(asset.tags), "separated by commas"
        )
        self.app.push_screen(screen, partial(self._retag, asset.id))

    def _retag(self, asset_id: int, line: str | None) -> None:
        if line is not None:
            self._change(partial(self._commands.retag, asset_id, _words(line)))

    def _tag_many(self, ids: tuple[int, ...], line: str | None) -> None:
        words = _words(line or "")
        add = tuple(word.removeprefix("+") for word in words if not word.startswith("-"))
        remove = tuple(word[1:] for word in words if word.startswith("-"))
        if words:
            said = f"tags of {count(len(ids), 'asset')} changed"
            self._change(partial(self._commands.change_tags, ids, add, remove), said)

    def action_note(self) -> None:
        """Write a note."""
        from tui.screens.ask import AskScreen

        rows = self._list.chosen
        if len(rows) == 1:
            self._with_asset(self._edit_note)
        elif rows:
            screen = AskScreen(f"Note on {self._named(rows)}")
            self.app.push_screen(screen, partial(self._keep_note, self._ids))

    def _edit_note(self, asset: Asset) -> None:
        from tui.screens.ask import AskScreen

        screen = AskScreen(f"Note on {plain(asset.name)}", asset.note or "")
        self.app.push_screen(screen, partial(self._keep_note, (asset.id,)))

    def _keep_note(self, ids: tuple[int, ...], line: str | None) -> None:
        if line is not None:
            self._change(partial(self._commands.note, ids, line))

    def action_rate(self, rating: int) -> None:
        """Rate the chosen assets."""
        if self._ids:
            self._change(partial(self._commands.rate, self._ids, rating))

    def action_forget(self) -> None:
        """Ask before assets are taken out of the library."""
        from tui.screens.confirm import ConfirmScreen

        rows = self._list.chosen
        if not rows:
            return
        names = [("", text(row.name)) for row in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            names.append(("", text(f"and {len(rows) - _SHOWN:,} more", "$dim")))
        plan = (
            Section(
                "", (("", text("Tags, notes, previews and origins go; files are not touched.")),)
            ),
            Section(count(len(rows), "asset"), tuple(names)),
        )
        screen = ConfirmScreen(f"Forget {self._named(rows)}?", plan, "Forget")
        self.app.push_screen(screen, partial(self._forget, self._ids))

    def _forget(self, ids: tuple[int, ...], go: bool | None) -> None:
        if go:
            self._list.clear_marks()
            said = f"{count(len(ids), 'asset')} forgotten (u takes it back)"
            self._change(partial(self._commands.forget, ids), said)

    def action_undo(self) -> None:
        """Take the last change back."""
        in_background(self, self._undo, group="change")

    async def _undo(self) -> None:
        change = self._commands.undos.take()
        if change is None:
            self._say("there is nothing to take back")
        elif change.as_job:
            self._queue.submit(Job(f"Taking back {change.what}", Lane.DISK, change.back))
        else:
            await asyncio.to_thread(change.back, SILENT)
            self._say(f"taken back: {change.what}")
            self._browser.reload()

    def action_open_folder(self) -> None:
        """The folder in the system's file manager."""
        self._with_asset(self._show_folder)

    def _show_folder(self, asset: Asset) -> None:
        if asset.path is not None:
            show = partial(self._commands.open_folder, asset.path)
            in_background(self, partial(asyncio.to_thread, show), group="folder")

    # ---- looking inside

    def action_inside(self) -> None:
        """The tensors of the asset under the cursor."""
        from tui.screens.inside import InsideScreen

        row = self._browser.current
        if row is not None:
            self.app.push_screen(InsideScreen(self._commands, f"#{row.id}", row.name))

    def action_compare(self) -> None:
        """Two marked files, tensor by tensor."""
        from tui.screens.compare import CompareScreen

        rows = self._list.chosen
        if len(rows) != 2:
            self._say("mark two files with space first", "warning")
            return
        first, second = (f"#{row.id}" for row in rows)
        found: list[Comparison] = []

        def work(progress: Progress, /) -> str:
            found.append(self._commands.inside.compare(first, second, progress))
            return f"{len(found[0].differences):,} differences"

        def show() -> None:
            self.app.push_screen(CompareScreen(found[0]))

        self._queue.submit(Job(f"Comparison of {plain(rows[0].name)}", Lane.DISK, work, show))

    def action_duplicates(self) -> None:
        """What is there more than once."""
        from tui.screens.duplicates import DuplicatesScreen

        self.app.push_screen(DuplicatesScreen(self._commands, self._queue), self._found_elsewhere)

    def _found_elsewhere(self, query: str | None) -> None:
        if query is not None:
            self.find(query)

    # ---- jobs

    def action_preview(self) -> None:
        """Render previews in the background."""
        self._submit("Preview of", Lane.RENDER, self._commands.preview)

    def action_verify(self) -> None:
        """Read files again in the background."""
        self._submit("Check of", Lane.DISK, self._commands.verify)

    def action_lookup(self) -> None:
        """Ask Civitai what files are."""
        self._submit("Look-up of", Lane.NETWORK, self._commands.lookup)

    def action_doctor(self) -> None:
        """Check what the program needs, and show what was found."""
        found: list[Check] = []

        def work(progress: Progress, /) -> str:
            found.extend(self._commands.diagnose(progress))
            wrong = sum(not check.ok for check in found)
            return f"{count(wrong, 'thing')} wrong" if wrong else "all is well"

        def show() -> None:
            from tui.describe import diagnosis
            from tui.screens.reading import ReadingScreen

            self.app.push_screen(ReadingScreen("What the program needs", diagnosis(found)))

        self._queue.submit(Job("Check of the program", Lane.LOOK, work, show))

    def _submit(self, verb: str, lane: Lane, run: Callable[..., str]) -> None:
        rows = self._list.chosen
        if rows:
            self._queue.submit(Job(f"{verb} {self._named(rows)}", lane, partial(run, self._ids)))

    def action_form(self, verb: str) -> None:
        """Ask how to convert, merge or extract, and show what that would do."""
        if self._ids:
            in_background(self, partial(self._open_form, verb, self._ids), group="form")

    async def _open_form(self, verb: str, ids: tuple[int, ...]) -> None:
        self._ask(await asyncio.to_thread(self._commands.form, verb, ids))

    def action_library_form(self, verb: str) -> None:
        """Ask how to do something with the library, or with what is found in it."""
        in_background(self, partial(self._open_library_form, verb, self.view.query), group="form")

    async def _open_library_form(self, verb: str, query: str) -> None:
        self._ask(await asyncio.to_thread(self._commands.library_form, verb, query))

    def _ask(self, form: Form) -> None:
        from tui.screens.form import FormScreen

        self.app.push_screen(FormScreen(form), self._do)

    def _do(self, planned: Planned | None) -> None:
        if planned is not None and planned.work is not None:
            self._queue.submit(Job(planned.title, planned.lane, planned.work))

    def action_rescan(self) -> None:
        """Look through the library's folders again."""
        self._queue.submit(Job("Scan of the library", Lane.DISK, self._commands.rescan))

    def action_add_folder(self) -> None:
        """Ask for a folder to scan."""
        from tui.screens.ask import AskScreen

        self.app.push_screen(AskScreen("Folder of models to scan"), self.scan_folder)

    def scan_folder(self, folder: str | None) -> None:
        """Scan a folder as a job."""
        if folder and folder.strip():
            self.scan_folders((folder.strip(),))

    def scan_folders(self, folders: tuple[str, ...] | None) -> None:
        """Scan folders as a job."""
        if folders:
            work = partial(self._commands.scan, folders)
            self._queue.submit(Job(f"Scan of {', '.join(folders)}", Lane.DISK, work))

    def action_stop_job(self) -> None:
        """Stop the job that is aimed at, or dismiss its failure."""
        target = self.query_one(JobsPane).target
        if target is not None:
            self._queue.stop_or_dismiss(target)


def _words(line: str) -> tuple[str, ...]:
    """Tags separated by commas, in their order, each once."""
    return tuple(dict.fromkeys(word for part in line.split(",") if (word := part.strip())))
