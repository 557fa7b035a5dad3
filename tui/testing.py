"""Commands that do nothing slow, for tests of the screens and of what is built on them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from assetmgr.workspace import Workspace
from converters.errors import AssetmgrError
from converters.progress import Progress
from registry.records import Asset, Page
from tui.commands import Commands, Conversion
from tui.query import View
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

    @property
    def library_name(self) -> str:
        """Not the folder: that is another one in every test."""
        return "my models"

    def asset(self, asset_id: int) -> Asset:
        """As in the library, but for the day."""
        return replace(super().asset(asset_id), added=DAY_ONE)

    def page(self, view: View, offset: int, limit: int) -> Page:
        """As in the library, but for the day."""
        page = super().page(view, offset, limit)
        return replace(page, rows=tuple(replace(row, added=DAY_ONE) for row in page.rows))

    def preview(self, asset_id: int, progress: Progress) -> str:
        """A preview by the script."""
        return self._script.run(f"preview #{asset_id}", progress)

    def plan_conversion(self, asset_id: int) -> Conversion:
        """A plan with one fact."""
        rows = (("target", text(f"{asset_id}.safetensors")),)
        title = f"Conversion of #{asset_id}"
        return Conversion(title, (Section("", rows),), partial(self._script.run, title))

    def rescan(self, progress: Progress) -> str:
        """A scan by the script."""
        return self._script.run("scan", progress)
