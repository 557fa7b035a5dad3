"""The pictures of the documentation: the real screens, on the library of the demo.

`python -m docs.scripts.pictures HOME` writes them to docs/images. The screen of Civitai and the Hub
shows cards of a script: pictures must not depend on what a service answers today.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input

from assetmgr.workspace import Workspace
from converters.progress import Progress
from tui.app import AssetManagerApp
from tui.cards import Ask, Card
from tui.commands import Commands
from tui.remote import Remote
from tui.screens.library import LibraryScreen
from tui.sections import Section, text
from tui.widgets.asset_list import AssetList

FOLDER = Path(__file__).parents[1] / "images"
SIZE = (110, 32)
NAME = "demo-library"
_CLIP_PATH = r"<clipPath id=\"terminal-\d+-line-\d+\">.*?</clipPath>\s*"
_PATIENCE = 2000


class _Cards(Remote):
    """A service with two cards."""

    def search(self, ask: Ask, progress: Progress) -> tuple[Card, ...]:
        facts = (
            ("model", text("Line art")),
            ("by", text("somebody")),
            ("base", text("SDXL 1.0")),
            ("licence", text("commercial")),
            ("words", text("lineart, clean lines")),
        )
        sections = (Section("Line art", facts),)
        new = Card(
            "Line art · v2", "lora", "SDXL 1.0", 228_455_420, "commercial", None, sections, None
        )
        here = replace(new, name="Line art · v1", base="SD 1.5", nbytes=37_876_123, asset=8)
        return new, here


class _Shown(Commands):
    """The demo's library under a name that is the same everywhere."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self.remote = _Cards(workspace)

    @property
    def library_name(self) -> str:
        return NAME


async def _rest(pilot: Pilot[None]) -> None:
    """Until nothing is fetched and no job goes on, three looks in a row."""
    app = pilot.app
    assert isinstance(app, AssetManagerApp)
    quiet = 0
    for _ in range(_PATIENCE):
        await pilot.pause(0.02)
        busy = [w for w in app.workers if w.group != "default" and not w.is_finished]
        quiet = 0 if busy else quiet + 1
        if quiet == 3:
            return
    raise TimeoutError


async def _picture(home: Path, name: str, keys: tuple[str, ...]) -> None:
    with Workspace.open() as workspace:
        app = AssetManagerApp(workspace, _Shown(workspace))
        app.animation_level = "none"
        async with app.run_test(size=SIZE) as pilot:
            while not isinstance(app.screen, LibraryScreen):
                await pilot.pause(0.02)
            while not app.screen.query_one(AssetList).loaded:
                await pilot.pause(0.02)
            for key in keys:
                await _press(pilot, key)
            for line in app.screen.query(Input):
                line.cursor_blink = False
            await _rest(pilot)
            svg = app.export_screenshot(title="assetmgr")
        (FOLDER / f"{name}.svg").write_text(small(_named(svg, str(home.parent))), "utf-8")


def _named(svg: str, folder: str) -> str:
    """The same name everywhere, with as many letters: another number would not end in its frame."""
    path = "/models" * len(folder) + f"/{NAME}"
    return svg.replace(folder, path[-len(folder) :])


async def _press(pilot: Pilot[None], key: str) -> None:
    if key.startswith("="):  # the filter
        pilot.app.screen.query_one("#filter-input", Input).value = key[1:]
    else:
        await pilot.press(key)
    await _rest(pilot)


def small(svg: str) -> str:
    """Without fonts from elsewhere, clip paths that clip nothing, and the number in all names."""
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r"<clipPath id=\"terminal-\d+-line-\d+\">.*?</clipPath>\s*", "", svg, flags=re.DOTALL
    )
    svg = re.sub(r' clip-path="url\(#terminal-\d+-line-\d+\)"', "", svg)
    svg = re.sub(r"terminal-\d+-", "t-", svg)
    svg = svg.replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    return re.sub(r">\s+<", "><", svg)


PICTURES: dict[str, tuple[str, ...]] = {
    "library": ("=kind:checkpoint", "f", "escape", "j"),
    "grid": ("T", "j"),
    "form": ("=kind:hypernetwork", "c"),
    "merge": ("=kind:lora", "m"),
    "jobs": ("V", "J"),
    "inside": ("=kind:lora", "i", "l", "j", "l", "j", "j", "v"),
    "hub": ("H", *"line art", "enter"),
    "duplicates": ("d",),
}
"""Name of a picture -> the keys that lead to it; `=TEXT` fills the filter."""


async def main(home: Path) -> None:
    """Draw all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name, keys in PICTURES.items():
        await _picture(home, name, keys)


if __name__ == "__main__":
    where = Path(sys.argv[1]).absolute()
    os.environ["ASSETMGR_HOME"] = str(where)
    asyncio.run(main(where))
