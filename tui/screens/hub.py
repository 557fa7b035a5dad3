"""Civitai and the Hugging Face Hub: search, look, fetch into the library."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from converters.progress import Progress
from tui import keymap
from tui.bridge import Job, JobState, Lane
from tui.commands import Commands
from tui.jobs import JobQueue
from tui.remote import KINDS, SERVICES, Card
from tui.sections import Section, text
from tui.text import count, plain, size
from tui.widgets.cursor_list import CursorList
from tui.widgets.facts import Facts
from tui.widgets.jobs_pane import JobsPane
from tui.widgets.table import Cell, Table, TableColumn, TableLines, TableRow
from tui.widgets.title_bar import TitleBar

_HINTS = {
    "civitai": "words, a number, or the address of a model",
    "huggingface": "a repository, such as ORG/NAME or ORG/NAME@REVISION",
}


class WantedInput(Input):
    """What is looked for; Enter asks the service."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,down", "screen.leave_search", "to the list", key_display="Esc"),
    ]


class HubScreen(Screen[str | None]):
    """Ends with the query that finds an asset in the library, or with None."""

    GROUPS: ClassVar = (keymap.MOVE, keymap.HUB)
    BINDINGS: ClassVar[list[BindingType]] = keymap.HUB.bindings()

    def __init__(self, commands: Commands, queue: JobQueue) -> None:
        super().__init__()
        self._commands, self._queue = commands, queue
        self._service, self._kind = 0, 0
        self._found: tuple[Card, ...] = ()
        self._job: Job | None = None

    def compose(self) -> ComposeResult:
        """The question over the answers and what is known of one of them."""
        yield TitleBar("Civitai")
        with Horizontal(classes="question"):
            yield Static(id="service", markup=False)
            yield WantedInput(compact=True, id="wanted")
        with Horizontal(id="middle"):
            yield Table(
                TableColumn("", 1),
                TableColumn("Name", 0),
                TableColumn("Kind", 12),
                TableColumn("Base", 10),
                TableColumn("Size", 9, right=True),
                TableColumn("Licence", 16, from_width=110),
            )
            with VerticalScroll(id="card", can_focus=False):
                yield Facts()
        yield JobsPane(self._queue)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Ask what is wanted."""
        self._show_service()
        self.query_one(TableLines).show((), ("Type what to look for and press Enter.",))
        self.query_one("#wanted", Input).focus()

    def on_unmount(self) -> None:
        """Nobody waits for the answer any more."""
        if self._job is not None and self._job.lane is Lane.LOOK:
            self._job.stop()

    # ---- asking

    def _show_service(self) -> None:
        word, name = SERVICES[self._service]
        kind = f" · {KINDS[self._kind]}" if KINDS[self._kind] and word == "civitai" else ""
        self.query_one(TitleBar).place = name
        self.query_one("#service", Static).update(Content(f"{name}{kind} "))
        self.query_one("#wanted", Input).placeholder = _HINTS[word]

    def action_service(self) -> None:
        """The other service."""
        self._service = (self._service + 1) % len(SERVICES)
        self._show_service()

    def action_kind(self) -> None:
        """Only the next kind, or all of them."""
        self._kind = (self._kind + 1) % len(KINDS)
        self._show_service()
        if self._found:
            self._ask()

    def action_search(self) -> None:
        """Type what to look for."""
        self.query_one("#wanted", Input).focus()

    def action_leave_search(self) -> None:
        """To the answers."""
        self.query_one(TableLines).focus()

    def on_input_submitted(self) -> None:
        """Ask the service."""
        self._ask()
        self.action_leave_search()

    def _ask(self) -> None:
        wanted = self.query_one("#wanted", Input).value
        if not wanted.strip():
            return
        if self._job is not None:
            self._job.stop()
        self.query_one(TableLines).show((), ("asking …",))
        title = f"Search for {wanted.strip()}"
        ask = partial(self._search, SERVICES[self._service][0], wanted, KINDS[self._kind])
        self._job = Job(title, Lane.LOOK, ask, self._show_found)
        self._queue.submit(self._job)

    def _search(self, service: str, wanted: str, kind: str, progress: Progress) -> str:
        """In the job's thread: ask and keep the answer."""
        self._found = self._commands.remote.search(service, wanted, kind, progress)
        return f"{len(self._found)} found"

    def sync(self) -> None:
        """A search that failed says so in the list."""
        if self._job is not None and self._job.state is JobState.FAILED and self.is_attached:
            self.query_one(TableLines).show((), ("no answer", "", self._job.outcome))

    def _show_found(self) -> None:
        if not self.is_attached:
            return
        rows = [_row(card) for card in self._found]
        self.query_one(TableLines).show(rows, ("Nothing was found.",), 0)
        self.query_one(TitleBar).totals = count(len(rows), "file")

    # ---- one of the answers

    @property
    def _card(self) -> Card | None:
        row = self.query_one(TableLines).current
        return row.key if row is not None and isinstance(row.key, Card) else None

    def on_table_lines_moved(self) -> None:
        """What is known of the card under the cursor."""
        card = self._card
        here = () if card is None or card.asset is None else (_here(card.asset),)
        self.query_one(Facts).sections = () if card is None else (*here, *card.sections)

    def action_download(self) -> None:
        """Fetch it as a job."""
        card = self._card
        if card is None or card.download is None:
            return
        if card.asset is not None:
            self.notify(f"already here: #{card.asset}", markup=False)
            return
        self._queue.submit(Job(f"Download of {card.name}", Lane.NETWORK, card.download))

    def action_peek(self) -> None:
        """Look into it as a job."""
        card = self._card
        if card is None:
            return
        if card.peek is None:
            self.notify("only files on the Hub can be looked into", markup=False)
            return
        self._queue.submit(Job(f"Peek at {card.name}", Lane.LOOK, card.peek))

    def on_cursor_list_opened(self, message: CursorList.Opened) -> None:
        """To the asset where it is here, else fetch it."""
        message.stop()
        card = self._card
        if card is not None and card.asset is not None:
            asset = self._commands.asset(card.asset)
            self.dismiss(f"hash:{asset.hashes['sha256']}")
        else:
            self.action_download()

    def action_copy(self) -> None:
        """The address, or else the name, to the clipboard."""
        card = self._card
        if card is None:
            return
        labels = {label: str(value) for section in card.sections for label, value in section.rows}
        address = labels.get("page") or labels.get("from") or card.name
        self.app.copy_to_clipboard(address)
        self.notify(f"copied: {plain(address)}", markup=False)

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)


def _here(asset: int) -> Section:
    return Section("Already here", (("", text(f"#{asset} · Enter shows it", "$success")),))


def _row(card: Card) -> TableRow:
    here = Cell("✓", "good") if card.asset is not None else Cell(" ")
    kind = card.kind if card.kind in {"checkpoint", "lora", "embedding", "vae"} else "dim"
    return TableRow(
        (
            here,
            Cell(card.name),
            Cell(card.kind, kind),
            Cell(card.base, "dim"),
            Cell(size(card.nbytes), "dim"),
            Cell(card.licence, "dim"),
        ),
        card,
    )
