"""What is there more than once, and what keeping one of each would free."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from converters.progress import Progress
from tui import keymap
from tui.background import in_background
from tui.bridge import Job, Lane
from tui.commands import Commands
from tui.faults import Surviving
from tui.forms import Form, Planned
from tui.jobs import JobQueue
from tui.text import count, plain, size
from tui.widgets.cursor_list import CursorList
from tui.widgets.footer import Footer
from tui.widgets.jobs_pane import JobsPane
from tui.widgets.table import Cell, Table, TableColumn, TableLines, TableRow
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from assetmgr.operations.duplicates.find import Copy, Group

_WORDS = {"file": "the same bytes", "weights": "the same weights, whatever holds them"}


class DuplicatesScreen(Surviving, Screen[str | None]):
    """Groups of equal files; ends with the query that finds one of them in the library."""

    GROUPS: ClassVar = (keymap.MOVE, keymap.DUPLICATES)
    BINDINGS: ClassVar[list[BindingType]] = keymap.DUPLICATES.bindings()

    def __init__(self, commands: Commands, queue: JobQueue) -> None:
        super().__init__()
        self._commands, self._queue = commands, queue
        self._by = "file"
        self._found: tuple[Group, ...] = ()
        self._job: Job | None = None

    def compose(self) -> ComposeResult:
        """The groups with their places."""
        yield TitleBar("Duplicates")
        yield Table(
            TableColumn("Frees", 10, right=True),
            TableColumn("Kind", 12, from_width=70),
            TableColumn("Size", 10, right=True),
            TableColumn("Place", 0),
        )
        yield JobsPane(self._queue)
        yield Footer()

    def on_mount(self) -> None:
        """Look for equal bytes first: that reads nothing."""
        self.query_one(TableLines).focus()
        self._look()

    def on_unmount(self) -> None:
        """Nobody waits for it any more."""
        if self._job is not None:
            self._job.stop()

    def _look(self) -> None:
        self.query_one(TitleBar).place = f"Duplicates: {_WORDS[self._by]}"
        self.query_one(TableLines).show((), ("looking …",))
        self._job = Job(f"Duplicates by {self._by}", Lane.DISK, self._find, self._show)
        self._queue.submit(self._job)

    def _find(self, progress: Progress, /) -> str:
        self._found = self._commands.duplicates(self._by, progress)
        return _total(self._found)

    def _show(self) -> None:
        if not self.is_attached:
            return
        note = ("Nothing is there twice.", "", "b looks for the same weights in other files.")
        self.query_one(TableLines).show([*_rows(self._found)], note, 0)
        self.query_one(TitleBar).totals = _total(self._found)

    def action_by(self) -> None:
        """By bytes, or by weights."""
        self._by = "weights" if self._by == "file" else "file"
        if self._job is not None:
            self._job.stop()
        self._look()

    @property
    def _copy(self) -> Copy | None:
        from assetmgr.operations.duplicates.find import Copy

        row = self.query_one(TableLines).current
        return row.key if row is not None and isinstance(row.key, Copy) else None

    def action_copy(self) -> None:
        """The path to the clipboard."""
        if self._copy is not None:
            self.app.copy_to_clipboard(self._copy.path)
            self.notify(f"copied: {plain(self._copy.path)}", markup=False)

    def action_link(self) -> None:
        """Ask how copies become links, and show what that frees."""
        self._ask(self._commands.clearing.link_form())

    def action_unlink(self) -> None:
        """Ask before links become files of their own."""
        self._ask(self._commands.clearing.unlink_form())

    def _ask(self, form: Form) -> None:
        from tui.screens.form import FormScreen

        self.app.push_screen(FormScreen(form), self._do)

    def _do(self, planned: Planned | None) -> None:
        if planned is not None and planned.work is not None:
            job = Job(planned.title, planned.lane, planned.work, self._look_if_here)
            self._queue.submit(job)

    def _look_if_here(self) -> None:
        if self.is_attached:
            self._look()

    def action_open_folder(self) -> None:
        """The folder in the system's file manager."""
        if self._copy is not None:
            show = partial(self._commands.open_folder, self._copy.path)
            in_background(self, partial(asyncio.to_thread, show), group="folder")

    def on_cursor_list_opened(self, message: CursorList.Opened) -> None:
        """To the asset in the library."""
        message.stop()
        if self._copy is not None:
            from assetmgr.operations.facets import term_of

            self.dismiss(term_of("path", self._copy.path))

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)


def _total(groups: Sequence[Group]) -> str:
    free = sum(group.reclaimable for group in groups)
    return f"{count(len(groups), 'group')}, {size(free)} to be freed" if groups else "no duplicates"


def _rows(groups: Sequence[Group]) -> Iterator[TableRow]:
    for group in groups:
        first = group.copies[0]
        free = Cell(size(group.reclaimable), "tags")
        yield TableRow((free, Cell(group.kind, "dim"), Cell(""), Cell(plain(group.name))), first)
        for copy in group.copies:
            place = PurePath(copy.path)
            shares = f"  ({copy.link.value} link)" if copy.link else ""
            path = Cell(plain(f"  {place}{shares}"), "dim", both_ends=True)
            yield TableRow((Cell(""), Cell(""), Cell(size(copy.bytes), "dim"), path), copy)
