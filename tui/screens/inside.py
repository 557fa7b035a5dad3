"""The tensors of a file as a tree that is searched as one types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Static

from converters.progress import Progress
from tui import keymap
from tui.background import Failed, in_background
from tui.bridge import Job, Lane
from tui.commands import Commands
from tui.faults import Surviving
from tui.inside import (
    Branch,
    Contents,
    Tensor,
    found,
    label,
    names_below,
    numbers,
    shape,
    tree,
    visible,
)
from tui.jobs import JobQueue
from tui.screens.reading import ReadingScreen
from tui.sections import Section, text
from tui.text import count, plain, size
from tui.widgets.cursor_list import CursorList
from tui.widgets.footer import Footer
from tui.widgets.jobs_pane import JobsPane
from tui.widgets.table import Cell, Table, TableColumn, TableLines, TableRow
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from converters.statistics import Statistics

_LONGEST_TEXT = 4000
_MOST_NUMBERS = 2000
_INDENT = "  "


class SearchInput(Surviving, Input):
    """A search that hands the keyboard back to the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,down", "screen.leave_search", "to the list", key_display="Enter"),
        Binding("escape", "screen.clear_search", "clear", key_display="Esc"),
    ]


class InsideScreen(Surviving, Screen[None]):
    """Names, types, shapes and sizes; from the header alone."""

    GROUPS: ClassVar = (keymap.MOVE, keymap.INSIDE)
    BINDINGS: ClassVar[list[BindingType]] = keymap.INSIDE.bindings()

    def __init__(self, commands: Commands, queue: JobQueue, reference: str, name: str) -> None:
        super().__init__()
        self._commands, self._reference, self._titled = commands, reference, name
        self._queue = queue
        self._numbers: dict[str, Statistics | None] = {}
        self._job: Job | None = None
        self._contents: Contents | None = None
        self._root = Branch("", "")
        self._opened: set[str] = set()

    def compose(self) -> ComposeResult:
        """A search over the tree."""
        yield TitleBar(plain(self._titled))
        yield SearchInput(
            placeholder="search: words in names, types and shapes", compact=True, id="search"
        )
        yield Table(
            TableColumn("Tensor", 0),
            TableColumn("Type", 8),
            TableColumn("Shape", 16),
            TableColumn("Size", 9, right=True, from_width=70),
        )
        yield Static(id="summary", markup=False)
        yield JobsPane(self._queue)
        yield Footer()

    def on_unmount(self) -> None:
        """Nobody waits for the numbers any more."""
        self.action_stop()

    def on_mount(self) -> None:
        """Read the header."""
        self.query_one("#summary").display = False
        self.query_one(TableLines).focus()
        self.query_one(TableLines).show((), ("reading the header …",))
        in_background(self, self._open, group="contents")

    async def _open(self) -> None:
        contents = await asyncio.to_thread(self._commands.inside.contents, self._reference)
        self._root = await asyncio.to_thread(tree, contents.tensors)
        self._contents = contents
        self.query_one(TitleBar).totals = contents.facts
        self._show()

    @on(Failed)
    def _failed(self, message: Failed) -> None:
        message.stop()
        self.query_one(TableLines).show((), ("cannot be opened", "", message.sentence))

    # ---- the tree

    def _show(self, cursor: int | None = None) -> None:
        contents = self._contents
        if contents is None:
            return
        words = self.query_one("#search", Input).value
        if words.strip():
            rows: Sequence[TableRow] = [_flat(each) for each in found(contents.tensors, words)]
            note = ("no tensor is called so", "", "Esc clears the search")
        else:
            rows = [
                _branch(branch, depth, opened=branch.path in self._opened)
                for depth, branch in visible(self._root, self._opened)
            ]
            note = ("no tensors in here", "", "")
        self.query_one(TableLines).show(rows, note, cursor)

    @property
    def _key(self) -> Branch | Tensor | None:
        row = self.query_one(TableLines).current
        return row.key if row is not None and isinstance(row.key, Branch | Tensor) else None

    def action_unfold(self) -> None:
        """Show what is below."""
        if isinstance(self._key, Branch) and self._key.below:
            self._opened.add(self._key.path)
            self._show()

    def action_fold(self) -> None:
        """Hide what is below, or go to the branch above."""
        branch = self._key
        if not isinstance(branch, Branch):
            return
        if branch.path in self._opened:
            self._opened.discard(branch.path)
            self._show()
            return
        lines = self.query_one(TableLines)
        for number in range(lines.cursor - 1, -1, -1):
            above = lines.rows[number].key
            if isinstance(above, Branch) and branch in above.below.values():
                lines.place(number)
                return

    def on_cursor_list_opened(self, message: CursorList.Opened) -> None:
        """Enter folds and unfolds."""
        message.stop()
        if isinstance(self._key, Branch) and self._key.path in self._opened:
            self.action_fold()
        else:
            self.action_unfold()

    # ---- the numbers

    def on_table_lines_moved(self) -> None:
        """What is known of the numbers of the tensor under the cursor."""
        name = self._tensor_name
        line = self.query_one("#summary", Static)
        line.display = name in self._numbers
        if line.display and name is not None:
            line.update(Content(numbers(self._numbers[name])))

    @property
    def _tensor_name(self) -> str | None:
        """The tensor under the cursor."""
        key = self._key
        tensor = key.tensor if isinstance(key, Branch) else key
        return None if tensor is None else tensor.name

    def action_statistics(self) -> None:
        """Read the tensors under the cursor as a job; of many, the answers are a page."""
        key = self._key
        if key is None or (self._job is not None and self._job.active):
            return
        of, names = key.name if isinstance(key, Tensor) else key.path, tuple(_names(key))

        def work(progress: Progress, /) -> str:
            found = self._commands.inside.statistics(self._reference, names, progress)
            self._numbers.update(found)
            broken = sum(each.non_finite > 0 for each in found.values() if each is not None)
            return f"not finite: {count(broken, 'tensor')}" if broken else "all are finite"

        self._job = Job(f"Numbers of {of}", Lane.LOOK, work, partial(self._show_numbers, names))
        self._queue.submit(self._job)

    def _show_numbers(self, names: tuple[str, ...]) -> None:
        if not self.is_attached:
            return
        self.on_table_lines_moved()
        if len(names) > 1:
            rows = [(name, self._numbers[name]) for name in names[:_MOST_NUMBERS]]
            sections = tuple(
                Section(plain(name), (("", text(numbers(found), _alarm(found))),))
                for name, found in sorted(rows, key=lambda row: not _alarm(row[1]))
            )
            self.app.push_screen(ReadingScreen(f"Numbers of {len(names):,} tensors", sections))

    def action_stop(self) -> None:
        """Stop reading."""
        if self._job is not None:
            self._job.stop()

    # ---- the search

    def action_search(self) -> None:
        """Type a search."""
        self.set_focus(self.query_one("#search", Input))  # before the next key

    def action_leave_search(self) -> None:
        """Back to the list."""
        self.query_one(TableLines).focus()

    def action_clear_search(self) -> None:
        """The whole tree again."""
        self.query_one("#search", Input).value = ""
        self.action_leave_search()

    def on_input_changed(self) -> None:
        """Every keystroke is a new search."""
        self._show(0)

    # ---- the rest

    def action_metadata(self) -> None:
        """The texts of the header on a page of their own."""
        if self._contents is not None:
            self.app.push_screen(ReadingScreen("Metadata", _metadata(self._contents)))

    def action_copy(self) -> None:
        """The name to the clipboard."""
        key = self._key
        if key is not None:
            name = key.path if isinstance(key, Branch) else key.name
            self.app.copy_to_clipboard(name)
            self.notify(f"copied: {plain(name)[:200]}", markup=False)

    def action_close(self) -> None:
        """Back; a search is cleared first."""
        if self.query_one("#search", Input).value:
            self.action_clear_search()
        else:
            self.dismiss(None)


def _names(key: Branch | Tensor) -> Iterable[str]:
    return (key.name,) if isinstance(key, Tensor) else names_below(key)


def _alarm(found: Statistics | None) -> str:
    return "$error" if found is not None and found.non_finite else ""


def _branch(branch: Branch, depth: int, *, opened: bool) -> TableRow:
    style = "title" if branch.below else "name"
    name = Cell(_INDENT * depth + label(branch, opened=opened), style, both_ends=True)
    if branch.tensor is not None and not branch.below:
        return TableRow((name, *_facts(branch.tensor)), branch)
    held = Cell(count(branch.count, "tensor"), "dim")
    return TableRow((name, Cell(""), held, Cell(size(branch.nbytes), "dim")), branch)


def _flat(tensor: Tensor) -> TableRow:
    name = Cell(plain(tensor.name) or "(no name)", both_ends=True)
    return TableRow((name, *_facts(tensor)), tensor)


def _facts(tensor: Tensor) -> tuple[Cell, ...]:
    return Cell(tensor.dtype, "tags"), Cell(shape(tensor)), Cell(size(tensor.nbytes), "dim")


def _metadata(contents: Contents) -> tuple[Section, ...]:
    rows = tuple(
        Section(plain(name), (("", text(value[:_LONGEST_TEXT])),))
        for name, value in sorted(contents.metadata.items())
    )
    return rows or (Section("", (("", text("this file has no metadata", "$dim")),)),)
