"""A question with the facts it is about, answered yes or no."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from tui.faults import Surviving
from tui.sections import Section
from tui.widgets.facts import Facts


class ConfirmScreen(Surviving, ModalScreen[bool]):
    """Shows a plan and waits for the decision."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "yes", show=False),
        Binding("n,escape,q", "answer(False)", "no", show=False),
    ]

    def __init__(self, title: str, plan: tuple[Section, ...], go: str) -> None:
        super().__init__()
        self._title, self._plan, self._go = title, plan, go

    def compose(self) -> ComposeResult:
        """Title, facts, two buttons."""
        with Vertical(classes="dialog"):
            yield Static(Content(self._title), classes="dialog-title")
            with VerticalScroll(can_focus=False, classes="dialog-body"):
                yield Facts(self._plan)
            with Horizontal(classes="dialog-buttons"):
                yield Button(f"{self._go} (y)", variant="primary", id="yes", compact=True)
                yield Button("Cancel (n)", id="no", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The same answers by mouse."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Close with an answer."""
        self.dismiss(answer)
