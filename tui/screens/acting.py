"""What the keys do with the chosen assets: the acting half of the library screen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textual.screen import Screen

from converters.progress import SILENT, Progress
from registry.list_records import AssetRow
from registry.records import Asset
from tui.background import in_background, in_turn
from tui.bridge import Job, Lane
from tui.commands import Commands
from tui.forms import Form, Planned, Told
from tui.images import MakePicture
from tui.jobs import JobQueue
from tui.sections import Section, text
from tui.text import count, plain
from tui.widgets.asset_list import AssetList
from tui.widgets.browser import Browser
from tui.widgets.details import Details
from tui.widgets.jobs_pane import JobsPane

if TYPE_CHECKING:
    from assetmgr.operations.diff import Comparison
    from assetmgr.operations.doctor_check import Check

Severity = Literal["information", "warning", "error"]
_SHOWN = 12


class ActingScreen(Screen[None]):
    """A screen with a browser and the details of one asset, whose keys act on assets."""

    def __init__(
        self, commands: Commands, queue: JobQueue, make_picture: MakePicture | None
    ) -> None:
        super().__init__()
        self._commands, self._queue, self._make_picture = commands, queue, make_picture
        self._copied: tuple[int, str] | None = None

    @property
    def _browser(self) -> Browser:
        return self.query_one(Browser)

    @property
    def _list(self) -> AssetList:
        return self.query_one(AssetList)

    @property
    def _details(self) -> Details:
        return self.query_one(Details)

    def _say(self, sentence: str, severity: Severity = "information") -> None:
        self.notify(sentence, severity=severity, markup=False)

    # ---- acting on the chosen assets

    @property
    def _ids(self) -> tuple[int, ...]:
        return tuple(row.id for row in self._list.chosen)

    def _named(self, rows: Sequence[AssetRow]) -> str:
        return plain(rows[0].name) if len(rows) == 1 else count(len(rows), "asset")

    def _with_asset(self, act: Callable[[Asset], None]) -> None:
        """Do something with the asset under the cursor, whose details may still be on their way."""
        row, shown = self._browser.current, self._details.asset
        if row is not None and shown is not None and shown.id == row.id:
            act(shown)
        elif row is not None:
            in_background(self, partial(self._fetched, row.id, act), group="asset")

    async def _fetched(self, asset_id: int, act: Callable[[Asset], None]) -> None:
        act(await asyncio.to_thread(self._commands.asset, asset_id))

    def _change(self, change: Callable[[], object], said: str = "") -> None:
        """Change something in the library and show it."""
        in_turn(self, partial(self._changed, change, said), group="change")

    async def _changed(self, change: Callable[[], object], said: str) -> None:
        await asyncio.to_thread(change)
        if said:
            self._say(said)
        self._browser.reload()

    def action_copy_hash(self) -> None:
        """AutoV2 first (what the sites search by), SHA-256 when pressed again."""
        self._with_asset(self._copy_hash)

    def _copy_hash(self, asset: Asset) -> None:
        name = "sha256" if self._copied == (asset.id, "autov2") else "autov2"
        digest = asset.hashes.get(name)
        if digest is None:
            self._say("no hash is known: rescan (r)", "warning")
            return
        self._copied = (asset.id, name)
        self.app.copy_to_clipboard(digest)
        self._say(f"{name} copied: {digest}")

    def action_copy_menu(self) -> None:
        """Choose what to copy."""
        self._with_asset(self._choose_copy)

    def _choose_copy(self, asset: Asset) -> None:
        from tui.copying import copyable
        from tui.screens.choose import ChooseScreen

        screen = ChooseScreen(f"Copy of {plain(asset.name)}", copyable(asset))
        self.app.push_screen(screen, self._copy)

    def _copy(self, what: str | None) -> None:
        if what is not None:
            self.app.copy_to_clipboard(what)
            self._say(f"copied: {plain(what)[:200]}")

    def action_tags(self) -> None:
        """Edit the tags of one asset; add and remove tags of many."""
        from tui.screens.ask import AskScreen

        rows = self._list.chosen
        if len(rows) == 1:
            self._with_asset(self._edit_tags)
        elif rows:
            title = f"Tags of {self._named(rows)}"
            screen = AskScreen(title, "", "tag, -tag: added, removed")
            self.app.push_screen(screen, partial(self._tag_many, self._ids))

    def _edit_tags(self, asset: Asset) -> None:
        from tui.screens.ask import AskScreen

        screen = AskScreen(
            f"Tags of {plain(asset.name)}", ", ".join(asset.tags), "separated by commas"
        )
        self.app.push_screen(screen, partial(self._retag, asset.id))

    def _retag(self, asset_id: int, line: str | None) -> None:
        if line is not None:
            self._change(partial(self._commands.retag, asset_id, _words(line)))

    def _tag_many(self, ids: tuple[int, ...], line: str | None) -> None:
        words = _words(line or "")
        add = tuple(word.removeprefix("+") for word in words if not word.startswith("-"))
        remove = tuple(word[1:] for word in words if word.startswith("-"))
        if words:
            said = f"tags of {count(len(ids), 'asset')} changed"
            self._change(partial(self._commands.change_tags, ids, add, remove), said)

    def action_note(self) -> None:
        """Write a note."""
        from tui.screens.ask import AskScreen

        rows = self._list.chosen
        if len(rows) == 1:
            self._with_asset(self._edit_note)
        elif rows:
            screen = AskScreen(f"Note on {self._named(rows)}")
            self.app.push_screen(screen, partial(self._keep_note, self._ids))

    def _edit_note(self, asset: Asset) -> None:
        from tui.screens.ask import AskScreen

        screen = AskScreen(f"Note on {plain(asset.name)}", asset.note or "")
        self.app.push_screen(screen, partial(self._keep_note, (asset.id,)))

    def _keep_note(self, ids: tuple[int, ...], line: str | None) -> None:
        if line is not None:
            self._change(partial(self._commands.note, ids, line))

    def action_rate(self, rating: int) -> None:
        """Rate the chosen assets."""
        if self._ids:
            self._change(partial(self._commands.rate, self._ids, rating))

    def action_forget(self) -> None:
        """Ask before assets are taken out of the library."""
        from tui.screens.confirm import ConfirmScreen

        rows = self._list.chosen
        if not rows:
            return
        names = [("", text(row.name)) for row in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            names.append(("", text(f"and {len(rows) - _SHOWN:,} more", "$dim")))
        plan = (
            Section(
                "", (("", text("Tags, notes, previews and origins go; files are not touched.")),)
            ),
            Section(count(len(rows), "asset"), tuple(names)),
        )
        screen = ConfirmScreen(f"Forget {self._named(rows)}?", plan, "Forget")
        self.app.push_screen(screen, partial(self._forget, self._ids))

    def _forget(self, ids: tuple[int, ...], go: bool | None) -> None:
        if go:
            self._list.clear_marks()
            said = f"{count(len(ids), 'asset')} forgotten (u takes it back)"
            self._change(partial(self._commands.forget, ids), said)

    def action_undo(self) -> None:
        """Take the last change back."""
        in_turn(self, self._undo, group="change")

    async def _undo(self) -> None:
        change = self._commands.undos.take()
        if change is None:
            self._say("there is nothing to take back")
        elif change.as_job:
            self._queue.submit(Job(f"Taking back {change.what}", Lane.DISK, change.back))
        else:
            await asyncio.to_thread(change.back, SILENT)
            self._say(f"taken back: {change.what}")
            self._browser.reload()

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
        in_background(self, partial(self._show_picture, asset), group="picture")

    async def _show_picture(self, asset: Asset) -> None:
        from tui.describe import of_preview

        shown = await asyncio.to_thread(self._commands.largest_picture, asset.id)
        if self._make_picture is None or shown is None:
            self._say("there is no picture of it: p renders one", "warning")
            return
        told = Told(asset.name, of_preview(asset, is_render=shown.is_render), shown.path)
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
            in_background(self, partial(self._open_form, verb, self._ids), group="form")

    async def _open_form(self, verb: str, ids: tuple[int, ...]) -> None:
        self._ask(await asyncio.to_thread(self._commands.form, verb, ids))

    def action_library_form(self, verb: str) -> None:
        """Ask how to do something with the library, or with what is found in it."""
        in_background(
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


def _words(line: str) -> tuple[str, ...]:
    """Tags separated by commas, in their order, each once."""
    return tuple(dict.fromkeys(word for part in line.split(",") if (word := part.strip())))
