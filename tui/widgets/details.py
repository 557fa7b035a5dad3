"""The pane beside the list: everything known of the selected asset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.widgets import Input

from registry.list_records import AssetRow
from tui import keymap
from tui.background import in_background
from tui.commands import Commands
from tui.describe import describe
from tui.faults import Part, Surviving
from tui.images import MakePicture, read_picture
from tui.sections import Section
from tui.shown_picture import WHOSE, shown_picture
from tui.widgets.facts import Facts
from tui.widgets.thumbnail import Thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from registry.records import Asset


SETTLE_SECONDS = 0.07
"""How long the cursor rests before anything is fetched: a held key, which repeats after 30 to 50
thousandths, fetches nothing, and so no thread takes the interpreter from the frames."""
TYPING_SECONDS = 0.6
"""The same while a line is typed in: forty words a minute are a letter each 0.3 seconds, and the
details of each would be laid out and painted just when the next comes."""


class ReadingScroll(Surviving, VerticalScroll):
    """The facts, scrolled by the keys that also move the list's cursor."""

    BINDINGS: ClassVar[list[BindingType]] = keymap.READ.bindings()

    # At once: what waits for a refresh loses a key that is pressed again before it.
    def action_scroll_down(self) -> None:
        """A line down."""
        self.scroll_down(animate=False, immediate=True)

    def action_scroll_up(self) -> None:
        """A line up."""
        self.scroll_up(animate=False, immediate=True)


class Details(Part):
    """Picture and facts of one asset."""

    def __init__(
        self, commands: Commands, make_picture: MakePicture | None, start: tuple[int, int] = (0, 0)
    ) -> None:
        """`start` is an asset and the line from which its facts are shown at first."""
        super().__init__()
        self._commands, self._start = commands, start
        self._make_picture = make_picture
        self._awaited: Callable[[], None] | None = None
        self.asset: Asset | None = None

    def compose(self) -> ComposeResult:
        """The picture above (or beside) the facts."""
        if self._make_picture is not None:
            yield Thumbnail(self._make_picture)
        with ReadingScroll():
            yield Facts()

    def load(self, row: AssetRow | None) -> None:
        """Show the asset of a row of the list, as soon as the list has come to rest on it."""
        if row is None or self.asset is None or row.id != self.asset.id:
            self.asset = None
        self._awaited = partial(self.load, row)
        in_background(self, partial(self._load, row), group="details")

    def put_off(self) -> None:
        """A letter was typed: what is not shown yet waits for rest once more."""
        if self._awaited is not None:
            self._awaited()

    @property
    def line(self) -> int:
        """From which line on the facts are shown."""
        return self.query_one(ReadingScroll).scroll_offset.y

    def start_reading(self) -> None:
        """Take the keyboard."""
        self.query_one(ReadingScroll).focus()

    async def _load(self, row: AssetRow | None) -> None:
        is_typing = isinstance(self.app.focused, Input)
        await asyncio.sleep(TYPING_SECONDS if is_typing else SETTLE_SECONDS)
        if row is None:
            self._show(None, None)
            return
        asset, sections = await asyncio.to_thread(self._look_up, row.id)
        picture, caption = None, ""
        if self._make_picture:
            picture, caption = await asyncio.to_thread(_read_picture, asset)
        self._show(asset, picture, sections, caption)

    def _look_up(self, asset_id: int) -> tuple[Asset, tuple[Section, ...]]:
        """In a thread: the asset, and in words what is known of it."""
        asset = self._commands.asset(asset_id)
        return asset, describe(asset, self._commands.lineage(asset))

    def _show(
        self,
        asset: Asset | None,
        picture: Picture | None,
        sections: tuple[Section, ...] = (),
        caption: str = "",
    ) -> None:
        if self.asset is None:
            self._scroll(asset)
        self.asset, self._awaited = asset, None
        self.query_one(Facts).sections = sections
        for thumbnail in self.query(Thumbnail):
            thumbnail.show(picture, caption if picture else _why_no_picture(asset))

    def _scroll(self, asset: Asset | None) -> None:
        """Another asset is read from its beginning, the first one from where it was left."""
        scroll, (number, line) = self.query_one(ReadingScroll), self._start
        self._start = (0, 0)
        if asset is not None and asset.id == number:
            self.call_after_refresh(scroll.scroll_to, y=line, animate=False)
        else:
            scroll.scroll_home(animate=False, immediate=True)


def _read_picture(asset: Asset) -> tuple[Picture | None, str]:
    """In a thread: the picture of an asset, and what has to be said of it."""
    shown = shown_picture(asset)
    if shown is None:
        return None, ""
    return read_picture(shown.path), "" if shown.is_render else WHOSE


def _why_no_picture(asset: Asset | None) -> str:
    if asset is None:
        return ""
    if asset.preview is None:
        return "no preview yet\n\np renders one"
    if asset.preview.path is None:
        return "the render gave\nno picture"
    return "the preview's picture\nis gone\n\np renders it again"
