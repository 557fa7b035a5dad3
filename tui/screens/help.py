"""The keys and the filter language on one page, made from the key table."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui import keymap
from tui.sections import Section, text
from tui.widgets.facts import Facts

FILTERS = Section(
    "Filter words",
    (
        ("word", text("in name, tags, notes, trigger words, metadata")),
        ('"a phrase"', text("the words together")),
        ("kind:lora", text("also base: algorithm: tag: hash: path: verdict:")),
        ("-tag:x", text("everything without")),
        ("size:>1gb", text("or <")),
        ("is:duplicate", text("also is:missing is:offline is:unsafe")),
    ),
)


class HelpScreen(ModalScreen[None]):
    """Every key with its meaning."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "close", "close", show=False),
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
    ]

    def compose(self) -> ComposeResult:
        """One section per group of keys."""
        keys = tuple(
            Section(group.title, tuple((key.shown, text(key.meaning)) for key in group.keys))
            for group in keymap.GROUPS
        )
        with Vertical(classes="dialog -tall"):
            yield Static(Content("Keys"), classes="dialog-title")
            with VerticalScroll(can_focus=False, classes="dialog-body"):
                yield Facts((*keys, FILTERS))
            yield Static("j k scroll · Esc closes", classes="dialog-hint")

    def action_scroll(self, lines: int) -> None:
        """Move the page."""
        self.query_one(VerticalScroll).scroll_relative(y=lines * 2, animate=False)

    def action_close(self) -> None:
        """Back to the library."""
        self.dismiss(None)
