"""Commands that do nothing slow, for tests of the screens and of what is built on them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from converters.errors import AssetmgrError
from converters.progress import Progress
from tui.commands import Commands, Conversion
from tui.sections import Section, text

STEPS = 4


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
    """The real library of a workspace; previews, conversions and scans follow `script`."""

    script: Script

    def preview(self, asset_id: int, progress: Progress) -> str:
        """A preview by the script."""
        return self.script.run(f"preview #{asset_id}", progress)

    def plan_conversion(self, asset_id: int) -> Conversion:
        """A plan with one fact."""
        rows = (("target", text(f"{asset_id}.safetensors")),)
        return Conversion(f"Conversion of #{asset_id}", (Section("", rows),), None)

    def convert(self, conversion: Conversion, progress: Progress) -> str:
        """A conversion by the script."""
        return self.script.run(conversion.title, progress)

    def rescan(self, progress: Progress) -> str:
        """A scan by the script."""
        return self.script.run("scan", progress)
