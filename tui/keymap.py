"""Every key of the program in one place: the bindings, the footer and the help are made from it."""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Key:
    """One row of the key table.

    `keys` are Textual key names joined by commas, `shown` is how people read them, `label` is the
    footer's word (empty: not in the footer), `meaning` the sentence of the help screen.
    """

    keys: str
    action: str
    shown: str
    label: str
    meaning: str

    def binding(self) -> Binding:
        """The Textual binding of this key."""
        return Binding(
            self.keys, self.action, self.label, show=bool(self.label), key_display=self.shown
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Keys that belong together, with the heading of the help screen."""

    title: str
    keys: tuple[Key, ...]

    def bindings(self) -> list[BindingType]:
        """The Textual bindings of the group."""
        return [key.binding() for key in self.keys]


FIND = Group(
    "Find",
    (
        Key("slash", "focus_filter", "/", "filter", "filter as you type (kind:lora size:>1gb …)"),
        Key("escape", "clear_filter", "Esc", "", "clear the filter, close what is open"),
        Key("left_square_bracket", "turn_tab(-1)", "[", "", "previous kind"),
        Key("right_square_bracket", "turn_tab(1)", "]", "", "next kind"),
    ),
)
SORT = Group(
    "Sort (again: other direction)",
    (
        Key("n", "sort('name')", "n", "", "by name"),
        Key("s", "sort('size')", "s", "", "by size"),
        Key("a", "sort('added')", "a", "", "by the day it was added"),
        Key("v", "sort('verdict')", "v", "", "by the verdict of the preview"),
    ),
)
ACT = Group(
    "Act on the asset",
    (
        Key("p", "preview", "p", "preview", "render a preview and judge it"),
        Key("c", "convert", "c", "convert", "convert to safetensors (the plan is shown first)"),
        Key("t", "tags", "t", "tags", "edit the tags"),
        Key("y", "copy_hash", "y", "copy hash", "copy the hash: AutoV2, again: SHA-256"),
    ),
)
PROGRAM = Group(
    "Program",
    (
        Key("r", "rescan", "r", "rescan", "scan the library's folders again"),
        Key("x", "stop_job", "x", "", "stop the running job, dismiss a failed one"),
        Key("question_mark", "help", "?", "help", "this page"),
        Key("q", "app.quit", "q", "quit", "leave the program (also Ctrl-C, Ctrl-Q)"),
    ),
)
MOVE = Group(
    "Move",
    (
        Key("j,down", "move(1)", "j ↓", "", "next"),
        Key("k,up", "move(-1)", "k ↑", "", "previous"),
        Key("ctrl+d", "move_page(0.5)", "^d", "", "half a page down"),
        Key("ctrl+u", "move_page(-0.5)", "^u", "", "half a page up"),
        Key("pagedown", "move_page(1)", "PgDn", "", "a page down"),
        Key("pageup", "move_page(-1)", "PgUp", "", "a page up"),
        Key("g,home", "move_to_start", "g", "", "first"),
        Key("G,end", "move_to_end", "G", "", "last"),
        Key("enter", "open", "Enter", "", "read the details in full"),
    ),
)
READ = Group(
    "Read the details",
    (
        Key("j,down", "scroll_down", "j ↓", "", "a line down"),
        Key("k,up", "scroll_up", "k ↑", "", "a line up"),
        Key("ctrl+d,pagedown", "page_down", "^d", "", "a page down"),
        Key("ctrl+u,pageup", "page_up", "^u", "", "a page up"),
        Key("g,home", "scroll_home", "g", "", "to the top"),
        Key("G,end", "scroll_end", "G", "", "to the end"),
    ),
)
GROUPS = (MOVE, FIND, SORT, ACT, PROGRAM)
SCREEN = (FIND, SORT, ACT, PROGRAM)
"""The groups that work wherever the focus is (but not while text is typed)."""
