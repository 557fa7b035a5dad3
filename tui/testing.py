"""Commands that do nothing slow, for tests of the screens and of what is built on them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from assetmgr.operations.diff import Comparison, Part
from assetmgr.operations.duplicates.find import Group
from assetmgr.operations.installed import ModelFolder
from assetmgr.workspace import Workspace
from converters.diff import Difference
from converters.errors import AssetmgrError, BadValue
from converters.progress import Progress
from converters.statistics import Statistics
from registry.downloads.records import QueuedDownload
from registry.list_records import AssetRow, Beginning, Page
from registry.records import Asset
from tui.cards import Ask, Card
from tui.commands import Commands
from tui.downloads import Downloads
from tui.forms import Answers, Field, Form, Planned, same
from tui.inside import Contents, Inside, Tensor
from tui.query import View
from tui.remote import Remote
from tui.sections import Section, text

STEPS = 4
DAY_ONE = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Script:
    """How every job goes: halfway it waits until `gate` opens, then it fails or ends.

    `asked` collects what was asked for, in order.
    """

    failure: AssetmgrError | None = None
    outcome: str = "done"
    installed: tuple[ModelFolder, ...] = ()
    groups: tuple[Group, ...] = ()
    cards: tuple[Card, ...] = ()
    downloads: tuple[QueuedDownload, ...] = ()
    asked: list[str] = field(default_factory=list)
    halfway: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)

    def run(self, asked: str, progress: Progress) -> str:
        """Raises the failure, or Cancelled when stopped at the gate."""
        self.asked.append(asked)
        progress.stage("sampling", STEPS, "steps")
        progress.advance(STEPS // 2)
        self.halfway.set()
        while not self.gate.wait(0.01):
            progress.advance(0)
        if self.failure is not None:
            raise self.failure
        progress.advance(STEPS - STEPS // 2)
        return self.outcome


class ScriptedCommands(Commands):
    """The real library of a workspace; previews, conversions and scans follow `script`.

    Every asset is added on `DAY_ONE`, so that pictures of the screen stay the same.
    """

    def __init__(self, workspace: Workspace, script: Script) -> None:
        super().__init__(workspace)
        self._script = script
        self.inside = ScriptedInside(workspace)
        self.remote = ScriptedRemote(workspace, script)
        self.downloads = ScriptedDownloads(workspace, script)

    @property
    def library_name(self) -> str:
        """Not the folder: that is another one in every test."""
        return "my models"

    def asset(self, asset_id: int) -> Asset:
        """As in the library, but for the day."""
        return replace(super().asset(asset_id), added=DAY_ONE)

    def without_opening(self, view: View, offset: int, limit: int) -> Page | None:
        """As in the library, but for the day."""
        page = super().without_opening(view, offset, limit)
        return page and replace(page, rows=_of_day_one(page.rows))

    def beginning(self, view: View, limit: int, progress: Progress) -> Beginning:
        """As in the library, but for the day."""
        first = super().beginning(view, limit, progress)
        return replace(first, rows=_of_day_one(first.rows))

    def at_once(self, view: View, limit: int) -> Beginning | None:
        """As in the library, but for the day."""
        first = super().at_once(view, limit)
        return first and replace(first, rows=_of_day_one(first.rows))

    def page(self, view: View, offset: int, limit: int) -> Page:
        """As in the library, but for the day."""
        page = super().page(view, offset, limit)
        return replace(page, rows=_of_day_one(page.rows))

    def preview(self, ids: Sequence[int], progress: Progress) -> str:
        """A preview by the script."""
        return self._script.run(f"preview {_numbers(ids)}", progress)

    def verify(self, ids: Sequence[int], progress: Progress, *, render: bool = False) -> str:
        """A check by the script."""
        how = "verify --render" if render else "verify"
        return self._script.run(f"{how} {_numbers(ids)}", progress)

    def form(self, verb: str, ids: Sequence[int]) -> Form:
        """A form with a choice and a text, and a plan that repeats them."""
        fields = (
            Field("dtype", "precision", "keep", same("keep", "fp16")),
            Field("output", "file", f"{ids[0]}.safetensors", proposal=partial(_proposal, ids)),
        )
        return Form(f"{verb} {_numbers(ids)}", fields, partial(self._plan, verb, ids), verb)

    def _plan(self, verb: str, ids: Sequence[int], answers: Answers) -> Planned:
        if not answers["output"]:
            raise BadValue("a file needs a name", hint="type one")
        rows = tuple((name, text(value)) for name, value in answers.items())
        title = f"{verb} {_numbers(ids)} {answers['dtype']}"
        return Planned(title, (Section("Plan", rows),), partial(self._script.run, title))

    def scan(self, folders: Sequence[str], progress: Progress) -> str:
        """A scan by the script."""
        return self._script.run(" ".join(["scan", *folders]), progress)

    def duplicates(self, by: str, progress: Progress) -> tuple[Group, ...]:
        """The groups of the script."""
        self._script.asked.append(f"duplicates by {by}")
        return self._script.groups

    def installed(self) -> tuple[ModelFolder, ...]:
        """The folders of the script, not those of the machine."""
        return self._script.installed


class ScriptedInside(Inside):
    """A small file for every asset; any two of them differ in a tensor."""

    def contents(self, reference: str) -> Contents:
        """Two blocks of two tensors and one that stands alone."""
        names = [f"unet.block_{n}.{part}" for n in (0, 1) for part in ("weight", "bias")]
        tensors = [Tensor(name, "F16", (320, 4), 2560) for name in names]
        tensors.append(Tensor("logit_scale", "F32", (), 4))
        return Contents(reference, "safetensors, 5 tensors", tuple(tensors), {"title": "[ink]"})

    def statistics(
        self, reference: str, names: Collection[str], progress: Progress
    ) -> dict[str, Statistics | None]:
        """Numbers between -1 and 1; one tensor has some that are not finite."""
        broken = "unet.block_1.bias"
        return {
            name: Statistics(1280, -1.0, 1.0, 0.0, 0.5, 128, 3 if name == broken else 0)
            for name in names
        }

    def compare(self, first: str, second: str, progress: Progress) -> Comparison:
        """One difference."""
        differs = (Difference("unet.block_0.weight", "has other values"),)
        return Comparison(
            f"/m/{first}", f"/m/{second}", (Part("unet", 3, 1),), differs, from_index=False
        )


class ScriptedDownloads(Downloads):
    """A queue that lists what the script has, and that runs as the script says."""

    def __init__(self, workspace: Workspace, script: Script) -> None:
        super().__init__(workspace)
        self._script = script

    def list(self) -> tuple[QueuedDownload, ...]:
        """The downloads of the script."""
        return self._script.downloads

    def pause(self, number: int) -> None:
        """Noted."""
        self._script.asked.append(f"pause {number}")

    def resume(self, number: int) -> None:
        """Noted."""
        self._script.asked.append(f"resume {number}")

    def cancel(self, number: int) -> None:
        """Noted."""
        self._script.asked.append(f"cancel {number}")

    def first(self, number: int) -> None:
        """Noted."""
        self._script.asked.append(f"first {number}")

    def clear(self) -> None:
        """Noted."""
        self._script.asked.append("clear")

    def run(self, progress: Progress) -> str:
        """A run by the script, after which nothing waits."""
        outcome = self._script.run("downloads", progress)
        self._script.downloads = ()
        return outcome


class ScriptedRemote(Remote):
    """Services that answer with the cards of a script."""

    def __init__(self, workspace: Workspace, script: Script) -> None:
        super().__init__(workspace)
        self._script = script

    def search(self, ask: Ask, progress: Progress) -> tuple[Card, ...]:
        """The cards, or the failure of the script."""
        narrowed = f"{ask.text} {ask.kind} {ask.base} {ask.sort}".strip()
        self._script.asked.append(f"{ask.service}: {narrowed}")
        if self._script.failure is not None:
            raise self._script.failure
        return self._script.cards


def _proposal(ids: Sequence[int], answers: Answers) -> str:
    return f"{ids[0]}.{answers['dtype']}.safetensors"


def _numbers(ids: Sequence[int]) -> str:
    return " ".join(f"#{asset_id}" for asset_id in ids)


def _of_day_one(rows: Sequence[AssetRow]) -> tuple[AssetRow, ...]:
    return tuple(replace(row, added=DAY_ONE) for row in rows)
