"""Civitai and the Hugging Face Hub: search, look, fetch into the library."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input, Static

from converters.progress import Progress
from tui import keymap
from tui.background import in_background
from tui.bridge import Job, JobState, Lane
from tui.cards import FIRST, Ask, Card
from tui.columns import KIND_STYLES
from tui.commands import Commands
from tui.downloads import run_in
from tui.faults import Surviving
from tui.jobs import JobQueue
from tui.remote import BASES, KINDS, SERVICES, Service
from tui.screens.choose import Choice, ChooseScreen
from tui.sections import Section, text
from tui.text import count, plain, size
from tui.widgets.cursor_list import CursorList
from tui.widgets.facts import Facts
from tui.widgets.footer import Footer
from tui.widgets.jobs_pane import JobsPane
from tui.widgets.table import Cell, Table, TableColumn, TableLines, TableRow
from tui.widgets.title_bar import TitleBar


class WantedInput(Surviving, Input):
    """What is looked for; Enter asks the service."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,down", "screen.leave_search", "to the list", key_display="Esc"),
    ]


class HubScreen(Surviving, Screen[str | None]):
    """Ends with the query that finds an asset in the library, or with None."""

    GROUPS: ClassVar = (keymap.MOVE, keymap.HUB)
    BINDINGS: ClassVar[list[BindingType]] = keymap.HUB.bindings()

    def __init__(self, commands: Commands, queue: JobQueue) -> None:
        super().__init__()
        self._commands, self._queue = commands, queue
        self._ask, self._shown = Ask(), Ask()
        self._before: list[tuple[Ask, tuple[Card, ...], int]] = []
        self._found: tuple[Card, ...] = ()
        self._answer: tuple[Card, ...] = ()
        self._peeked: dict[str, str] = {}
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
        yield Footer()

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

    @property
    def _service(self) -> Service:
        return next(each for each in SERVICES if each.word == self._ask.service)

    def _show_service(self) -> None:
        ask = self._ask
        narrowed = " · ".join(word for word in (ask.kind, ask.base, ask.sort) if word)
        said = f"{self._service.name} · {narrowed} " if narrowed else f"{self._service.name} "
        self.query_one(TitleBar).place = self._service.name
        self.query_one("#service", Static).update(Content(said))
        self.query_one("#wanted", Input).placeholder = self._service.hint

    def action_service(self) -> None:
        """The other service; what was asked there stays, but for the order."""
        position = (SERVICES.index(self._service) + 1) % len(SERVICES)
        self._change(service=SERVICES[position].word, sort="")

    def action_narrow(self, by: str) -> None:
        """Choose a kind, a base or an order, or none of them."""
        words = {"kind": KINDS, "base": BASES, "sort": self._service.sorts}[by]
        choices = [Choice("0", "any", "", ""), *(_choice(n, w) for n, w in enumerate(words, 1))]
        self.app.push_screen(ChooseScreen(f"Only one {by}", choices), partial(self._narrowed, by))

    def _narrowed(self, by: str, word: str | None) -> None:
        if word is not None:
            self._change(**{by: word})

    def _change(self, **changes: str) -> None:
        self._ask = replace(self._ask, **changes, most=FIRST)
        self._show_service()
        if self._found:
            self._search()

    def action_search(self) -> None:
        """Type what to look for."""
        self.set_focus(self.query_one("#wanted", Input))  # before the next key

    def action_leave_search(self) -> None:
        """To the answers."""
        self.query_one(TableLines).focus()

    def on_input_submitted(self) -> None:
        """Ask the service."""
        text = self.query_one("#wanted", Input).value
        if text.strip():
            self._ask = replace(self._ask, text=text, most=FIRST)
            self._search()
        self.action_leave_search()

    def action_more(self) -> None:
        """Ask for more of the same."""
        if self._found and self._shown.text:
            self._ask = replace(self._shown, most=self._shown.most + FIRST)
            self._search(self.query_one(TableLines).cursor)

    def _search(self, cursor: int = 0) -> None:
        ask = self._ask
        self._submit(
            f"Search for {ask.text.strip()}",
            partial(self._commands.remote.search, ask),
            partial(self._show_found, ask, cursor),
        )

    def action_updates(self) -> None:
        """What the library has of the service, and whether there is something newer."""
        service = self._service
        self._remember()
        self._submit(
            f"Updates on {service.name}",
            partial(self._commands.remote.updates, service.word),
            partial(self._show_found, Ask(service.word), 0),
        )

    def _submit(
        self, title: str, ask: Callable[[Progress], tuple[Card, ...]], then: Callable[[], None]
    ) -> None:
        if self._job is not None:
            self._job.stop()
        self.query_one(TableLines).show((), ("asking …",))

        def work(progress: Progress, /) -> str:
            self._answer = ask(progress)
            return f"{len(self._answer)} found"

        self._job = Job(title, Lane.LOOK, work, then)
        self._queue.submit(self._job)

    @property
    def _asks(self) -> bool:
        return self._job is not None and self._job.active

    def sync(self) -> None:
        """A search that failed says so in the list."""
        if self._job is not None and self._job.state is JobState.FAILED and self.is_attached:
            self.query_one(TableLines).show((), ("no answer", "", self._job.outcome))

    def reload(self) -> None:
        """The library has changed: some of it may be here now."""
        if self._found:
            in_background(self, partial(self._look_again, self._found), group="here")

    async def _look_again(self, cards: tuple[Card, ...]) -> None:
        found = await asyncio.to_thread(self._commands.remote.look_again, cards)
        if self._found is cards and found != cards and not self._asks:
            self._found = found
            self._show(self.query_one(TableLines).cursor)

    def _show_found(self, ask: Ask, cursor: int) -> None:
        if self.is_attached:
            self._shown, self._found = ask, self._answer
            self._show(cursor)

    def _show(self, cursor: int) -> None:
        rows = [_row(card) for card in self._found]
        self.query_one(TableLines).show(rows, ("Nothing was found.",), cursor)
        self.query_one(TitleBar).totals = count(len(rows), "answer")

    def _remember(self) -> None:
        """What is shown now is what `close` leads back to."""
        if self._found:
            self._before.append((self._shown, self._found, self.query_one(TableLines).cursor))

    def action_close(self) -> None:
        """Back to the answers before, or to the library."""
        if not self._before:
            self.dismiss(None)
            return
        if self._job is not None and self._job.lane is Lane.LOOK:
            self._job.stop()
        self._ask, self._found, cursor = self._before.pop()
        self._shown = self._ask
        self.query_one("#wanted", Input).value = self._ask.text
        self._show_service()
        self._show(cursor)

    # ---- one of the answers

    @property
    def _card(self) -> Card | None:
        row = self.query_one(TableLines).current
        return row.key if row is not None and isinstance(row.key, Card) else None

    def on_table_lines_moved(self) -> None:
        """What is known of the card under the cursor."""
        card = self._card
        self.query_one(Facts).sections = () if card is None else tuple(self._sections(card))

    def _sections(self, card: Card) -> Iterator[Section]:
        if card.asset is not None:
            said = text(f"#{card.asset} · Enter shows it", "$success")
            yield Section("Already here", (("", said),))
        if card.opens is not None:
            yield Section("", (("", text("Enter lists its files", "$dim")),))
        if card.name in self._peeked:
            yield Section("Inside", (("", text(self._peeked[card.name])),))
        yield from card.sections

    def action_download(self) -> None:
        """Put it into the queue, and see that this is run."""
        card = self._card
        if card is None:
            return
        if card.opens is not None:
            self.notify("Enter lists its files; D fetches one of them", markup=False)
        elif card.asset is not None and not card.beside:
            self.notify(f"already here: #{card.asset}", markup=False)
        elif card.download is not None:
            then = partial(run_in, self._queue, self._commands.downloads)
            self._queue.submit(Job(f"Download of {card.name}", Lane.LOOK, card.download, then))
            more = f" and {count(card.beside, 'other file')} of its model" if card.beside else ""
            self.notify(f"queued: {card.name}{more} (J shows it)", markup=False)

    def action_peek(self) -> None:
        """Look into it as a job."""
        card = self._card
        if card is None:
            return
        if card.peek is None:
            self.notify("only a file can be looked into", markup=False)
            return
        job = Job(f"Peek at {card.name}", Lane.LOOK, card.peek)
        job.then = partial(self._keep_peek, card.name, job)
        self._queue.submit(job)

    def _keep_peek(self, name: str, job: Job) -> None:
        self._peeked[name] = job.outcome
        if self.is_attached:
            self.on_table_lines_moved()

    def on_cursor_list_opened(self, message: CursorList.Opened) -> None:
        """Into a repository; to the asset where the file is here; else fetch it."""
        message.stop()
        card = self._card
        if card is not None and card.opens is not None:
            self._remember()
            self._ask = Ask(self._shown.service, card.opens)
            self.query_one("#wanted", Input).value = card.opens
            self._search()
        elif card is not None and card.asset is not None:
            in_background(self, partial(self._show_asset, card.asset), group="asset")
        else:
            self.action_download()

    async def _show_asset(self, number: int) -> None:
        asset = await asyncio.to_thread(self._commands.asset, number)
        self.dismiss(f"hash:{asset.hashes['sha256']}")

    def action_copy(self) -> None:
        """The address, or else the name, to the clipboard."""
        card = self._card
        if card is None:
            return
        labels = {label: str(value) for section in card.sections for label, value in section.rows}
        address = labels.get("page") or labels.get("from") or card.name
        self.app.copy_to_clipboard(address)
        self.notify(f"copied: {plain(address)}", markup=False)


def _choice(position: int, word: str) -> Choice:
    return Choice(str(position) if position < 10 else "", word, "", word)


def _row(card: Card) -> TableRow:
    here = Cell("✓", "good") if card.asset is not None else Cell(" ")
    kind = card.kind if card.kind in KIND_STYLES else "dim"
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
