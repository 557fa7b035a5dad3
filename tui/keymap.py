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

    def bindings(self) -> list[BindingType]:
        """The Textual bindings; an action with `{key}` has one for each of the keys."""
        keys = self.keys.split(",") if "{key}" in self.action else [self.keys]
        return [
            Binding(
                names,
                self.action.format(key=names),
                self.label,
                show=bool(self.label),
                key_display=self.shown,
            )
            for names in keys
        ]


@dataclass(frozen=True, slots=True)
class Group:
    """Keys that belong together, with the heading of the help screen."""

    title: str
    keys: tuple[Key, ...]

    def bindings(self) -> list[BindingType]:
        """The Textual bindings of the group."""
        return [binding for key in self.keys for binding in key.bindings()]


FIND = Group(
    "Find",
    (
        Key("slash", "focus_filter", "/", "filter", "filter as you type (kind:lora size:>1gb …)"),
        Key("escape", "clear", "Esc", "", "close what is open, unmark, clear the filter"),
        Key("left_square_bracket", "turn_tab(-1)", "[", "", "previous kind"),
        Key("right_square_bracket", "turn_tab(1)", "]", "", "next kind"),
        Key("T", "tiles", "T", "grid", "a grid of thumbnails, or the list"),
        Key("f", "facets", "f", "facets", "facets: base, algorithm, tags, folder, verdict, safety"),
        Key("S", "searches", "S", "", "saved searches: open, keep this one, remove"),
    ),
)
SORT = Group(
    "Sort (again: other direction)",
    (
        Key("n", "sort('name')", "n", "", "by name"),
        Key("s", "sort('size')", "s", "", "by size"),
        Key("a", "sort('added')", "a", "", "by the day it was added"),
        Key("v", "sort('verdict')", "v", "", "by the verdict of the preview"),
        Key("o", "sort_menu", "o", "", "by anything else"),
    ),
)
ACT = Group(
    "Act on the asset, or on all that are marked",
    (
        Key("p", "preview", "p", "preview", "render a preview and judge it"),
        Key(
            "P",
            "form('preview')",
            "P",
            "",
            "render with prompt, seed, base and size of your choice",
        ),
        Key("C", "form('sheet')", "C", "", "render side by side: two assets, or many weights"),
        Key("b", "picture", "b", "", "the picture, as large as the terminal"),
        Key("V", "verify", "V", "", "verify: read again, look for damage"),
        Key("Z", "verify_by_render", "Z", "", "verify, and prove with a render that it works"),
        Key("c", "form('convert')", "c", "convert", "convert (the plan is shown first)"),
        Key("m", "form('merge')", "m", "merge", "merge adapters, or checkpoints with each other"),
        Key("e", "form('extract')", "e", "", "take out a VAE, UNet, encoder, LoRA, embedding"),
        Key("z", "form('resize')", "z", "", "give a LoRA another rank"),
        Key("t", "tags", "t", "tags", "edit the tags"),
        Key("N", "note", "N", "", "write a note"),
        Key("0,1,2,3,4,5", "rate({key})", "0…5", "", "rate"),
        Key("y", "copy_hash", "y", "copy", "copy the hash: AutoV2, again: SHA-256"),
        Key("Y", "copy_menu", "Y", "", "copy prompt, path, words or any hash"),
        Key("i", "inside", "i", "inside", "look inside: the tensors"),
        Key("equals_sign", "compare", "=", "", "compare two marked files tensor by tensor"),
        Key("w", "form('explain')", "w", "", "find out what it was merged of"),
        Key("O", "open_folder", "O", "", "open the folder it lies in"),
        Key("A", "lookup", "A", "", "look it up on Civitai, by its hashes"),
        Key("K", "form('enrich')", "K", "", "keep beside it what Civitai says of it"),
        Key("W", "form('sidecar')", "W", "", "write what is known beside it, for other programs"),
        Key("M", "form('move')", "M", "", "move it to another folder, or rename it"),
        Key("delete", "forget", "Del", "", "forget: out of the library, the file stays"),
        Key("X", "form('trash')", "X", "", "to the trash: the file and what lies beside it"),
        Key("B", "form('restore')", "B", "", "bring missing files back from the trash"),
        Key("u", "undo", "u", "", "take the last change back"),
    ),
)
PROGRAM = Group(
    "Program",
    (
        Key("r", "rescan", "r", "", "scan the library's folders again"),
        Key("R", "add_folder", "R", "", "scan another folder into the library"),
        Key("U", "library_form('forget')", "U", "", "take a folder out of the library"),
        Key("F", "look_into", "F", "", "look into a file that is not in the library"),
        Key("d", "duplicates", "d", "", "duplicates, and the bytes they take"),
        Key(
            "L", "library_form('link')", "L", "", "show what is found to another program, as links"
        ),
        Key("E", "library_form('export')", "E", "", "export tags, notes and ratings to a file"),
        Key("I", "library_form('import')", "I", "", "import them from a file"),
        Key("H", "app.hub", "H", "hub", "Civitai and the Hugging Face Hub"),
        Key("J", "app.jobs", "J", "", "jobs: progress, pause, log"),
        Key("x", "stop_job", "x", "", "stop the running job, dismiss a failed one"),
        Key("D", "doctor", "D", "", "check what the program needs"),
        Key(
            "comma",
            "app.settings",
            ",",
            "",
            "settings: colours, pictures, preview base, tokens",
        ),
        Key("colon,ctrl+p", "app.command_palette", ":", "", "every command by name"),
        Key("question_mark", "app.help", "?", "help", "this page"),
        Key("q", "app.quit", "q", "quit", "leave the program (also Ctrl-C, Ctrl-Q)"),
    ),
)
MARK = Group(
    "Mark",
    (
        Key("space", "mark", "Space", "mark", "mark or unmark, and go on"),
        Key("asterisk", "mark_all", "*", "", "mark all that are found, or none"),
    ),
)
SIDE = Group(
    "In the grid",
    (
        Key("h,left", "move_side(-1)", "h ←", "", "the tile at the left"),
        Key("l,right", "move_side(1)", "l →", "", "the tile at the right"),
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
JOBS = Group(
    "Jobs",
    (
        Key(
            "x,delete",
            "stop",
            "x",
            "stop",
            "stop the job, let its failure go; cancel the download",
        ),
        Key("z", "pause", "z", "pause", "pause the job or download, or let it go on"),
        Key("a", "again", "a", "again", "do it once more, after a failure or a stop"),
        Key("r", "run", "r", "", "run the queue of downloads"),
        Key("t", "first", "t", "", "a download before all others"),
        Key("C", "clear", "C", "clear", "forget the jobs that have ended, and what is downloaded"),
        Key("y", "copy", "y", "copy", "copy the log"),
        Key("escape,q,J", "close", "Esc", "back", "back"),
    ),
)
DUPLICATES = Group(
    "Duplicates",
    (
        Key("b", "by", "b", "file/weights", "by bytes, or by weights whatever holds them"),
        Key("L", "link", "L", "link", "let copies be links to one file (plan first)"),
        Key("U", "unlink", "U", "", "give files that became links their own bytes back"),
        Key("y", "copy", "y", "copy path", "copy the path"),
        Key("O", "open_folder", "O", "folder", "open the folder it lies in"),
        Key("escape,q,d", "close", "Esc", "back", "back"),
    ),
)
INSIDE = Group(
    "Inside a file",
    (
        Key("slash", "search", "/", "search", "search in names, types and shapes"),
        Key("right,l", "unfold", "→", "unfold", "unfold a branch"),
        Key("left,h", "fold", "←", "fold", "fold it, or go to the one above"),
        Key("v", "statistics", "v", "values", "what the numbers are like (reads the tensors)"),
        Key("x", "stop", "x", "", "stop reading"),
        Key("M", "metadata", "M", "metadata", "the texts of the header"),
        Key("y", "copy", "y", "copy name", "copy the name"),
        Key("escape,q,i", "close", "Esc", "back", "back"),
    ),
)
HUB = Group(
    "Civitai and the Hub",
    (
        Key("slash", "search", "/", "search", "what to look for"),
        Key("D", "download", "D", "download", "fetch, verify and register"),
        Key("p", "peek", "p", "peek", "look into the file without fetching it (Hub)"),
        Key("s", "service", "s", "service", "Civitai, or the Hugging Face Hub"),
        Key("K", "narrow('kind')", "K", "kind", "only one kind"),
        Key("B", "narrow('base')", "B", "", "only one base"),
        Key("o", "narrow('sort')", "o", "", "another order"),
        Key("m", "more", "m", "", "more answers"),
        Key("u", "updates", "u", "", "is there something newer of what came from there?"),
        Key("y", "copy", "y", "copy", "copy the address"),
        Key("J", "app.jobs", "J", "jobs", "jobs"),
        Key("escape,q,H", "close", "Esc", "back", "back"),
    ),
)
PICTURE = Group(
    "A picture",
    (
        Key("y", "copy", "y", "copy path", "copy the path"),
        Key("Y", "copy_prompt", "Y", "copy prompt", "copy the prompt of the render"),
        Key("O", "open_folder", "O", "folder", "open the folder it lies in"),
        Key("escape,q,b", "close", "Esc", "back", "back"),
    ),
)
GROUPS = (MOVE, SIDE, MARK, FIND, SORT, ACT, PROGRAM)
SCREEN = (FIND, SORT, ACT, PROGRAM)
"""The groups that work wherever the focus is (but not while text is typed)."""

_IN_EIGHTY_CELLS = ("slash", "f", "p", "c", "m", "question_mark", "q")


def screen_bindings() -> list[BindingType]:
    """The bindings of the library screen; a narrow footer shows the first, which matter most."""
    keys = [key for group in SCREEN for key in group.keys]
    keys.sort(key=lambda key: key.keys not in _IN_EIGHTY_CELLS)  # which keeps the order else
    return [binding for key in keys for binding in key.bindings()]
