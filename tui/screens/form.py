"""A form with its plan below: every answer shows at once what would be done."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Label, Static

from converters.errors import AssetmgrError
from tui.background import in_background
from tui.faults import Part, Surviving
from tui.forms import Field, Form, Planned
from tui.sections import Section, text
from tui.text import plain
from tui.widgets.facts import Facts
from tui.widgets.line import Line

SETTLE_SECONDS = 0.12
"""How long the answers rest before their plan is made: a typed number is planned once."""


class Options(Part, can_focus=True):
    """One of several values, turned with the arrow keys, the mouse or Enter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l,space,enter", "turn(1)", "next", show=False),
        Binding("left,h", "turn(-1)", "previous", show=False),
    ]

    class Changed(Message):
        """Another value is shown."""

    def __init__(self, options: tuple[tuple[str, str], ...], value: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._options = options
        self._number = max((n for n, (v, _) in enumerate(options) if v == value), default=0)

    @property
    def value(self) -> str:
        """The value that is shown."""
        return self._options[self._number][0]

    def render(self) -> Content:
        """The value between arrows."""
        shown = plain(self._options[self._number][1])
        return Content.assemble(("◂ ", "$primary"), shown, (" ▸", "$primary"))

    def action_turn(self, steps: int) -> None:
        """To another value, around the ends."""
        self._number = (self._number + steps) % len(self._options)
        self.refresh()
        self.post_message(self.Changed())

    def on_click(self, event: events.Click) -> None:
        """The arrow that was hit, or the next one."""
        self.action_turn(-1 if event.x < 2 else 1)


class Fields(Surviving, VerticalScroll, can_focus=False, inherit_bindings=False):
    """Lines of a form. The arrow keys go from one to the next, which comes into sight with it.

    Textual's would only scroll, where there is not room for all.
    """


class FormScreen(Surviving, ModalScreen[Planned | None]):
    """Gives what was planned when it shall be done; None when given up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "cancel", show=False),
        Binding("ctrl+s", "go", "go", show=False, priority=True),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form
        self._planned: Planned | None = None
        self._proposed = {field.name: field.value for field in form.fields}

    def compose(self) -> ComposeResult:
        """Fields, plan, buttons."""
        with Vertical(classes="dialog -tall"):
            yield Static(Content(plain(self._form.title)), classes="dialog-title")
            with Fields(id="fields"):
                for number, field in enumerate(self._form.fields):
                    with Horizontal(classes="field"):
                        yield Label(Content(plain(field.label)), classes="field-label")
                        yield _widget(field, number)
            with VerticalScroll(can_focus=False, classes="dialog-body", id="plan"):
                yield Facts()
            with Horizontal(classes="dialog-buttons"):
                yield Button(
                    f"{self._form.go} (^s)",
                    variant="primary",
                    id="yes",
                    compact=True,
                    disabled=True,
                )
                yield Button("Cancel (Esc)", id="no", compact=True)

    def on_mount(self) -> None:
        """The plan of the first answers."""
        self.query_one(Facts).sections = (Section("", (("", text("making the plan …", "$dim")),)),)
        self._plan_anew()

    @property
    def answers(self) -> dict[str, str]:
        """What the fields say now."""
        found = {}
        for number, field in enumerate(self._form.fields):
            widget = self.query_one(f"#field-{number}")
            assert isinstance(widget, Options | Line)
            found[field.name] = widget.answer if isinstance(widget, Line) else widget.value
        return found

    def on_options_changed(self) -> None:
        """Another plan, and what is proposed with it."""
        answers = self.answers
        for number, field in enumerate(self._form.fields):
            if field.proposal and answers[field.name] == self._proposed[field.name]:
                self._proposed[field.name] = field.proposal(answers)
                self.query_one(f"#field-{number}", Line).give(self._proposed[field.name])
        self._plan_anew()

    def on_input_changed(self) -> None:
        """Another plan."""
        self._plan_anew()

    def on_input_submitted(self) -> None:
        """Enter goes on to the next field."""
        self.focus_next()

    def _plan_anew(self) -> None:
        self._planned = None
        self.query_one("#yes", Button).disabled = True
        in_background(self, self._plan, group="plan")

    async def _plan(self) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        try:
            planned = await asyncio.to_thread(partial(self._form.plan, self.answers))
        except AssetmgrError as error:
            hint = () if error.hint is None else (("", text(error.hint, "$dim")),)
            rows = (("", text(error, "$error")), *hint)
            self.query_one(Facts).sections = (Section("Cannot be done", rows),)
            return
        except Exception:  # which is told as any fault; nothing is being made any more
            self.query_one(Facts).sections = ()
            raise
        self._planned = planned
        self.query_one(Facts).sections = planned.sections
        self.query_one("#yes", Button).disabled = planned.work is None

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The same answers by mouse."""
        if event.button.id == "yes":
            self.action_go()
        else:
            self.dismiss(None)

    def action_go(self) -> None:
        """Do what is planned, once the plan is here."""
        if self._planned is None:
            self.notify("there is no plan yet of what is typed", markup=False)
        elif self._planned.work is not None:
            self.dismiss(self._planned)

    def action_give_up(self) -> None:
        """Do nothing."""
        self.dismiss(None)


def _widget(field: Field, number: int) -> Widget:
    name = f"field-{number}"
    if field.options:
        return Options(field.options, field.value, id=name)
    return Line(field.value, placeholder=plain(field.empty), compact=True, id=name)
