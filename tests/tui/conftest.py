"""A small library with awkward names, and the program open on it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import pytest
import textual._wait
import textual.screen
from helpers.waiting import until
from PIL import Image, ImageDraw
from textual.pilot import Pilot
from textual.widgets import Input, Static
from textual.worker import Worker, WorkerCancelled

from assetmgr.operations.duplicates.find import Copy, Group, Link
from assetmgr.workspace import Workspace
from converters.hashing import FileHashes
from converters.pickles.verdict import SafetyReport, Verdict
from converters.progress import Progress
from registry.library import Library
from registry.records import Preview, PreviewCheck
from registry.scanning.scan_records import Content, ScannedFile
from tui.app import AssetManagerApp
from tui.cards import Card
from tui.jobs import JobQueue
from tui.screens import form, library
from tui.sections import Section, text
from tui.testing import Script, ScriptedCommands
from tui.widgets import browser, details, tiles
from tui.widgets.asset_list import AssetList
from tui.widgets.cursor_list import CursorList
from tui.widgets.details import Details
from tui.widgets.facts import Facts
from tui.widgets.filter_bar import FilterInput


@dataclass
class Driver:
    """The open program, as a user meets it."""

    app: AssetManagerApp
    pilot: Pilot[None]
    script: Script

    async def press(self, *keys: str) -> None:
        """Press keys and let the program come to rest."""
        await self.pilot.press(*keys)
        await self.rest()

    async def filter(self, text: str) -> None:
        """Have this in the filter line, with the keyboard in it."""
        line = self.app.screen.query_one(FilterInput)
        line.focus()
        line.value = text
        await self.rest()

    async def rest(self) -> None:
        """Wait until nothing is being fetched; jobs may go on.

        Not by watching for an idle processor, as the pilot does: a starved one looks idle too. A
        fetch leads to a message and that to another fetch, so several quiet rounds are wanted.
        """
        quiet = 0
        while quiet < 3:
            await self.pilot.pause(0)
            fetches = self._fetches()
            quiet = quiet + 1 if not fetches and self._composed() else 0
            if fetches:  # none would mean all workers, also the jobs
                with suppress(WorkerCancelled):  # a newer one took its place
                    await self.app.workers.wait_for_complete(fetches)

    async def opened(self) -> None:
        """Wait until the library is on the screen."""
        await self.until(lambda: len(self.app.screen_stack) > 1 and self.list.loaded)

    def _fetches(self) -> list[Worker[object]]:
        return [
            worker
            for worker in self.app.workers
            if worker.group not in {"default", "jobs"} and not worker.is_finished
        ]

    def _composed(self) -> bool:
        """Whether the screen on top has all its parts."""
        screen = self.app.screen
        return screen.is_mounted and all(widget.is_mounted for widget in screen.query())

    async def until(self, happened: Callable[[], object]) -> None:
        """Wait for something a thread does."""
        await until(self.pilot, happened)
        await self.rest()

    @property
    def list(self) -> AssetList:
        """The list of the library screen."""
        return self.app.screen_stack[1].query_one(AssetList)

    @property
    def details(self) -> Details:
        """The details pane."""
        return self.app.screen_stack[1].query_one(Details)

    def lines(self) -> list[str]:
        """What the list shows, line by line."""
        return [self.list.render_line(y).text for y in range(self.list.size.height)]

    def names(self) -> list[str]:
        """The names in the list, top to bottom."""
        return [line[4:].split("  ")[0] for line in self.lines() if line.strip()]

    def text(self) -> str:
        """What the screen on top shows in its facts, tables and labels."""
        parts: list[str] = []
        for widget in self.app.screen.walk_children():
            if isinstance(widget, CursorList):
                parts += [widget.render_line(y).text for y in range(widget.size.height)]
            elif isinstance(widget, Facts | Static):
                parts.append(str(widget.render()))
        return "\n".join(parts)

    async def answer(self, text: str) -> None:
        """Have this in the line of the dialog, and press Enter."""
        self.app.screen.query_one(Input).value = text
        await self.press("enter")

    def facts(self) -> str:
        """What the details pane says."""
        return str(self.details.query_one(Facts).render())

    def toasts(self) -> list[str]:
        """What was said in notifications."""
        return [note.message for note in self.app._notifications]


# The pilot looks fifty times a second whether all is quiet; `rest` looks for itself.
textual._wait.SLEEP_GRANULARITY = 0.002
textual._wait.SLEEP_IDLE = 0.001

# As often as the program lets it (`tui`), and a little more: here Textual was imported before.
textual.screen.UPDATE_PERIOD = 1 / 500  # type: ignore[misc]

# What rests before it is fetched rests shorter: the driver waits for all of it.
form.SETTLE_SECONDS = details.SETTLE_SECONDS = tiles.SETTLE_SECONDS = 0.005
details.TYPING_SECONDS = browser.FACETS_SETTLE_SECONDS = library.OPENED_SECONDS = 0.005

Open = Callable[..., AbstractAsyncContextManager[Driver]]


@pytest.fixture(autouse=True)
def _notifications_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A starved machine may need longer for two of them than the first is shown."""
    monkeypatch.setattr(AssetManagerApp, "NOTIFICATION_TIMEOUT", 600)


@pytest.fixture(autouse=True)
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """What handlers raised, which the program survives, and no test unless it expects it."""
    found: list[Exception] = []
    keep = JobQueue.keep_fault

    def noted(queue: JobQueue, error: Exception) -> bool:
        found.append(error)
        return keep(queue, error)

    monkeypatch.setattr(JobQueue, "keep_fault", noted)
    yield found
    for error in found:
        raise error


@pytest.fixture
def script() -> Iterator[Script]:
    """How jobs go; whatever a test leaves waiting is let go."""
    script = Script(groups=GROUPS, cards=cards())
    yield script
    script.gate.set()


@pytest.fixture
def commands(workspace: Workspace, script: Script) -> ScriptedCommands:
    """The library of `workspace` with jobs by `script`."""
    return ScriptedCommands(workspace, script)


@pytest.fixture
def driver() -> type[Driver]:
    """The class, for tests that open the program themselves."""
    return Driver


@pytest.fixture
def open_program(workspace: Workspace, commands: ScriptedCommands, script: Script) -> Open:
    """Opens the program at a size."""

    @asynccontextmanager
    async def opened(size: tuple[int, int] = (80, 24)) -> AsyncIterator[Driver]:
        app = AssetManagerApp(workspace, commands)
        async with app.run_test(size=size) as pilot:
            driver = Driver(app, pilot, script)
            await driver.opened()
            yield driver

    return opened


GROUPS = (
    Group(
        "aa",
        "ink wash",
        "lora",
        (
            Copy(4, "/models/lora/ink wash.safetensors", 37_876_123, None),
            Copy(4, "/backup/[old]/ink wash.safetensors", 37_876_123, None),
            Copy(4, "/linked/ink wash.safetensors", 37_876_123, Link.HARD),
        ),
    ),
)


def cards() -> tuple[Card, ...]:
    """What a service has: one file that is here, and one that is not."""

    def fetch(_progress: Progress, /) -> str:
        return "queued as 1"

    facts = Section("[Ink] wash", (("page", text("https://example.org/1")),))
    here = Card("[Ink] wash · v1", "lora", "SD 1.5", 37_876_123, "commercial", 4, (facts,), fetch)
    awaited = hashes(Entry("line art", "lora", 1)).sha256
    new = replace(here, name="Line art · v2", asset=None, licence="no merges", sha256=awaited)
    return here, new


@dataclass(frozen=True)
class Entry:
    """An asset of the library under test."""

    name: str
    kind: str
    bytes: int
    tags: tuple[str, ...] = ()
    verdict: str | None = None
    danger: str | None = None


LIBRARY = (
    Entry("anything v5", "checkpoint", 4_265_380_512, ("anime",), "ok"),
    Entry("bad hands", "embedding", 24_655),
    Entry("detail tweaker", "lora", 18_987_654, ("red", "style"), "failed"),
    Entry("ink wash", "lora", 37_876_123, ("style",), "ok"),
    Entry("mystery", "unknown", 12, danger="calls os.system"),
    Entry("pastel [bold]mix[red] \x1b[31m", "checkpoint", 2_132_625_432),
    Entry("smooth hyper", "hypernetwork", 87_123_456),
    Entry("vae mse", "vae", 334_641_190),
    Entry("麦橘写实 v7", "checkpoint", 2_132_625_612, (), "ok"),
)


def content(entry: Entry) -> Content:
    """What the headers of such a file would tell."""
    lora = entry.kind == "lora"
    verdict = Verdict.DANGEROUS if entry.danger else Verdict.SAFE
    return Content(
        kind=entry.kind,
        base="unknown" if entry.kind == "unknown" else "sd-1",
        variant=None,
        prediction="epsilon",
        algorithm=("lora",) if lora else (),
        layout="kohya" if lora else None,
        container="safetensors",
        rank=16 if lora else None,
        dtypes={"F16": 264},
        tensors=264,
        parameters=entry.bytes // 2,
        components=(),
        confidence=1.0,
        evidence=(),
        problems=("not a model: text",) if entry.kind == "unknown" else (),
        trigger_words=(f"{entry.name} style",) if lora else (),
        metadata={},
        safety=SafetyReport(verdict, (), (entry.danger,) if entry.danger else ()),
    )


def hashes(entry: Entry) -> FileHashes:
    """Hashes that differ from asset to asset."""
    digest = sha256(entry.name.encode()).hexdigest()
    return FileHashes(digest[::-1], digest, digest[:8], digest[8:16], None)


def preview(entry: Entry, picture: Path) -> Preview:
    """A render with a red disc."""
    good = entry.verdict == "ok"
    checks = (
        PreviewCheck("complete", True, None, None, "264 of 264 tensors used"),
        PreviewCheck("effect", good, 0.21 if good else 0.001, 0.02, "differs from the base render"),
    )
    return Preview(str(picture), None, 7, "a red circle", str(entry.verdict), checks)


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a preview of a red circle looks like."""
    path = tmp_path_factory.mktemp("pictures") / "preview.png"
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill=(205, 40, 52))
    image.save(path)
    return path


@pytest.fixture(scope="session")
def nine_assets(picture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a library of nine assets, to be copied."""
    path = tmp_path_factory.mktemp("nine") / "library.db"
    with Library.open(f"sqlite:///{path}") as library:
        for number, entry in enumerate(LIBRARY):
            record(library, entry, number, picture)
    return path


@pytest.fixture
def workspace(nine_assets: Path) -> Iterator[Workspace]:
    """A library of nine assets, in its own home."""
    workspace = Workspace.open()
    shutil.copy(nine_assets, workspace.paths.database)
    yield workspace
    workspace.close()


def record(library: Library, entry: Entry, number: int, picture: Path) -> None:
    """Put one asset into a library."""
    path = f"/models/{entry.kind}/{entry.name}.safetensors"
    scanned = ScannedFile(path, entry.bytes, 0, number, hashes(entry), None, content(entry))
    asset = library.record_file(scanned)
    library.tag([asset.id], entry.tags)
    if entry.verdict:
        library.record_preview(asset.id, preview(entry, picture))


Put = Callable[[str, int], None]
"""Put a LoRA of a name and a number into the library under test."""


@pytest.fixture
def put(workspace: Workspace, picture: Path) -> Put:
    """Puts more assets into the library."""

    def put(name: str, number: int) -> None:
        record(workspace.library, Entry(name, "lora", 1000 + number), number, picture)

    return put
