"""Looking into the chosen assets, and beginning jobs and forms about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from converters.progress import Progress
from tui.background import in_background, opening
from tui.bridge import Job, Lane
from tui.forms import Form, Planned, Told
from tui.screens.annotating import AnnotatingScreen
from tui.text import count, plain
from tui.widgets.jobs_pane import JobsPane

if TYPE_CHECKING:
    from assetmgr.operations.diff import Comparison
    from assetmgr.operations.doctor.check import Check
    from registry.records import Asset


class ActingScreen(AnnotatingScreen):
    """A screen whose keys also look into assets, and begin jobs and forms about them."""

    def action_open_folder(self) -> None:
        """The folder in the system's file manager."""
        self._with_asset(self._show_folder)

    def _show_folder(self, asset: Asset) -> None:
        if asset.path is not None:
            show = partial(self._commands.open_folder, asset.path)
            in_background(self, partial(asyncio.to_thread, show), group="folder")

    # ---- looking inside

    def action_inside(self) -> None:
        """The tensors of the asset under the cursor."""
        from tui.screens.inside import InsideScreen

        row = self._browser.current
        if row is not None:
            screen = InsideScreen(self._commands, self._queue, f"#{row.id}", row.name)
            self.app.push_screen(screen)

    def action_look_into(self) -> None:
        """Ask for a file, and show its tensors."""
        from tui.screens.ask import AskScreen

        self.app.push_screen(AskScreen("File to look into"), self._look_into)

    def _look_into(self, answer: str | None) -> None:
        from tui.screens.inside import InsideScreen

        if answer and answer.strip():
            path = str(Path(answer.strip()).expanduser())
            self.app.push_screen(InsideScreen(self._commands, self._queue, path, path))

    def action_picture(self) -> None:
        """The picture of the asset under the cursor, as large as the terminal."""
        self._with_asset(self._enlarge)

    def _enlarge(self, asset: Asset) -> None:
        if self._make_picture is None:
            self._say("pictures are off (, changes that)", "warning")
        else:
            in_background(self, partial(self._show_picture, asset), group="picture")

    async def _show_picture(self, asset: Asset) -> None:
        from tui.describe import of_preview

        shown = await asyncio.to_thread(self._commands.largest_picture, asset.id)
        if shown is None:
            self._say("there is no picture of it: p renders one", "warning")
            return
        said = of_preview(asset, is_render=shown.is_render)
        prompt = asset.preview.prompt if shown.is_render and asset.preview else None
        told = Told(asset.name, said, shown.path, prompt)
        self._tell(lambda: told)

    def action_compare(self) -> None:
        """Two marked files, tensor by tensor."""
        from tui.screens.compare import CompareScreen

        rows = self._list.chosen
        if len(rows) != 2:
            self._say("mark two files with space first", "warning")
            return
        first, second = (f"#{row.id}" for row in rows)
        found: list[Comparison] = []

        def work(progress: Progress, /) -> str:
            found.append(self._commands.inside.compare(first, second, progress))
            return f"{len(found[0].differences):,} differences"

        def show() -> None:
            self.app.push_screen(CompareScreen(found[0]))

        title = f"Comparison of {plain(rows[0].name)}"
        self._queue.submit(Job(title, Lane.DISK, work, show=show))

    # ---- jobs

    def action_preview(self) -> None:
        """Render previews in the background."""
        self._submit("Preview of", Lane.RENDER, self._commands.preview)

    def action_verify(self) -> None:
        """Read files again in the background."""
        self._submit("Check of", Lane.DISK, self._commands.verify)

    def action_verify_by_render(self) -> None:
        """Read files again and render them in the background."""
        run = partial(self._commands.verify, render=True)
        self._submit("Check by a render of", Lane.RENDER, run)

    def action_lookup(self) -> None:
        """Ask Civitai what files are."""
        self._submit("Look-up of", Lane.NETWORK, self._commands.lookup)

    def action_doctor(self) -> None:
        """Check what the program needs, and show what was found."""
        found: list[Check] = []

        def work(progress: Progress, /) -> str:
            found.extend(self._commands.diagnose(progress))
            wrong = sum(not check.ok for check in found)
            return f"{count(wrong, 'thing')} wrong" if wrong else "all is well"

        def show() -> None:
            from tui.describe import diagnosis
            from tui.screens.reading import ReadingScreen

            self.app.push_screen(ReadingScreen("What the program needs", diagnosis(found)))

        self._queue.submit(Job("Check of the program", Lane.LOOK, work, show=show))

    def _submit(self, verb: str, lane: Lane, run: Callable[..., str]) -> None:
        rows = self._list.chosen
        if rows:
            self._queue.submit(Job(f"{verb} {self._named(rows)}", lane, partial(run, self._ids)))

    def action_form(self, verb: str) -> None:
        """Ask how to convert, merge or extract, and show what that would do."""
        if self._ids:
            opening(self, partial(self._open_form, verb, self._ids), group="form")

    async def _open_form(self, verb: str, ids: tuple[int, ...]) -> None:
        self._ask(await asyncio.to_thread(self._commands.form, verb, ids))

    def action_library_form(self, verb: str) -> None:
        """Ask how to do something with the library, or with what is found in it."""
        opening(
            self, partial(self._open_library_form, verb, self._browser.view.query), group="form"
        )

    async def _open_library_form(self, verb: str, query: str) -> None:
        self._ask(await asyncio.to_thread(self._commands.library_form, verb, query))

    def _ask(self, form: Form) -> None:
        from tui.screens.form import FormScreen

        self.app.push_screen(FormScreen(form), self._do)

    def _do(self, planned: Planned | None) -> None:
        if planned is not None and planned.work is not None:
            show = None if planned.told is None else partial(self._tell, planned.told)
            self._queue.submit(Job(planned.title, planned.lane, planned.work, show=show))

    def _tell(self, told: Callable[[], Told]) -> None:
        """Show what there is to read of something done."""
        from tui.screens.picture import PictureScreen
        from tui.screens.reading import ReadingScreen

        found = told()
        if found.picture is not None and self._make_picture is not None:
            self.app.push_screen(PictureScreen(self._commands, self._make_picture, found))
        else:
            self.app.push_screen(ReadingScreen(plain(found.title), found.sections))

    def action_rescan(self) -> None:
        """Look through the library's folders again."""
        self._queue.submit(Job("Scan of the library", Lane.DISK, self._commands.rescan))

    def action_add_folder(self) -> None:
        """Ask for a folder to scan."""
        from tui.screens.ask import AskScreen

        self.app.push_screen(AskScreen("Folder of models to scan"), self.scan_folder)

    def scan_folder(self, folder: str | None) -> None:
        """Scan a folder as a job."""
        if folder and folder.strip():
            self.scan_folders((folder,))

    def scan_folders(self, folders: tuple[str, ...] | None) -> None:
        """Scan folders as a job; `~` is the user's own."""
        if folders:
            paths = [str(Path(folder.strip()).expanduser()) for folder in folders]
            work = partial(self._commands.scan, paths)
            self._queue.submit(Job(f"Scan of {', '.join(paths)}", Lane.DISK, work))

    def action_stop_job(self) -> None:
        """Stop the job that is aimed at, or dismiss its failure."""
        target = self.query_one(JobsPane).target
        if target is not None:
            self._queue.stop_or_dismiss(target)
