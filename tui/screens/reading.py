"""Facts on a page of their own, to be read and scrolled."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui.faults import Surviving
from tui.sections import Section
from tui.widgets.details import ReadingScroll
from tui.widgets.facts import Facts


class ReadingScreen(Surviving, ModalScreen[None]):
    """Sections under a title."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark", "close", "close", show=False),
    ]

    def __init__(self, title: str, sections: tuple[Section, ...]) -> None:
        super().__init__()
        self._title, self._sections = title, sections

    def compose(self) -> ComposeResult:
        """Title, sections, what the keys do."""
        with Vertical(classes="dialog -tall"):
            yield Static(Content(self._title), classes="dialog-title")
            with ReadingScroll(classes="dialog-body"):
                yield Facts(self._sections)
            yield Static("j k scroll · Esc closes", classes="dialog-hint")

    def on_mount(self) -> None:
        """The keys scroll."""
        self.query_one(ReadingScroll).focus()

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)
