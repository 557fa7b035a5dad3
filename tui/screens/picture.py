"""A picture as large as the terminal, over what there is to say of it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen

from tui import keymap
from tui.background import in_background
from tui.commands import Commands
from tui.faults import Surviving
from tui.forms import Told
from tui.images import MakePicture, read_picture
from tui.text import plain
from tui.widgets.details import ReadingScroll
from tui.widgets.facts import Facts
from tui.widgets.footer import Footer
from tui.widgets.thumbnail import Thumbnail
from tui.widgets.title_bar import TitleBar

LONGEST_SIDE = 2048
"""Pixels: a sheet of renders has small print."""


class PictureScreen(Surviving, Screen[None]):
    """Shows a picture's file."""

    GROUPS: ClassVar = (keymap.READ, keymap.PICTURE)
    BINDINGS: ClassVar[list[BindingType]] = keymap.PICTURE.bindings()

    def __init__(self, commands: Commands, make_picture: MakePicture, told: Told) -> None:
        super().__init__()
        self._commands, self._make_picture, self._told = commands, make_picture, told

    def compose(self) -> ComposeResult:
        """The picture has all the room that the words leave."""
        yield TitleBar(plain(self._told.title))
        yield Thumbnail(self._make_picture)
        with ReadingScroll():
            yield Facts(self._told.sections)
        yield Footer()

    def on_mount(self) -> None:
        """Read the picture."""
        self.query_one(ReadingScroll).focus()
        in_background(self, self._read, group="picture")

    @property
    def _path(self) -> str:
        return self._told.picture or ""

    async def _read(self) -> None:
        picture = await asyncio.to_thread(read_picture, self._path, LONGEST_SIDE)
        words = "" if picture else f"{plain(Path(self._path).name)}\ncannot be shown"
        self.query_one(Thumbnail).show(picture, words)

    def action_open_folder(self) -> None:
        """The folder in the system's file manager."""
        show = partial(self._commands.open_folder, self._path)
        in_background(self, partial(asyncio.to_thread, show), group="folder")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only renders have a prompt to be copied."""
        return action != "copy_prompt" or bool(self._told.prompt)

    def action_copy(self) -> None:
        """The path to the clipboard."""
        self._copy(self._path)

    def action_copy_prompt(self) -> None:
        """What was rendered, to the clipboard."""
        self._copy(self._told.prompt or "")

    def _copy(self, words: str) -> None:
        self.app.copy_to_clipboard(words)
        self.notify(f"copied: {plain(words)}", markup=False)

    def action_close(self) -> None:
        """Back."""
        self.dismiss(None)
