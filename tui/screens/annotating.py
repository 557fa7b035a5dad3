"""What users write on the chosen assets, and what they copy of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from converters.progress import SILENT
from registry.list_records import AssetRow
from tui.background import in_turn, opening
from tui.bridge import Job, Lane
from tui.commands import Commands
from tui.drawing import FrugalScreen
from tui.images import MakePicture
from tui.jobs import JobQueue
from tui.sections import Section, text
from tui.text import count, plain
from tui.widgets.asset_list import AssetList
from tui.widgets.browser import Browser
from tui.widgets.details import Details

if TYPE_CHECKING:
    from registry.records import Asset

Severity = Literal["information", "warning", "error"]
_SHOWN = 12


class AnnotatingScreen(FrugalScreen):
    """A screen with a browser and the details of one asset, whose keys write on assets."""

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
            opening(self, partial(self._fetched, row.id, act), group="asset")

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
            self._change(partial(self._commands.annotations.retag, asset_id, _words(line)))

    def _tag_many(self, ids: tuple[int, ...], line: str | None) -> None:
        words = _words(line or "")
        add = tuple(word.removeprefix("+") for word in words if not word.startswith("-"))
        remove = tuple(word[1:] for word in words if word.startswith("-"))
        if words:
            said = f"tags of {count(len(ids), 'asset')} changed"
            self._change(partial(self._commands.annotations.change_tags, ids, add, remove), said)

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
            self._change(partial(self._commands.annotations.note, ids, line))

    def action_rate(self, rating: int) -> None:
        """Rate the chosen assets."""
        if self._ids:
            self._change(partial(self._commands.annotations.rate, self._ids, rating))

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
            self._change(partial(self._commands.annotations.forget, ids), said)

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


def _words(line: str) -> tuple[str, ...]:
    """Tags separated by commas, in their order, each once."""
    return tuple(dict.fromkeys(word for part in line.split(",") if (word := part.strip())))
