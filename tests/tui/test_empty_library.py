"""The first start, before anything was scanned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from assetmgr.workspace import Workspace
from tui.widgets.details import Details
from tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Open


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    with Workspace.open() as workspace:
        yield workspace


async def test_an_empty_library_says_what_to_do_next(open_program: Open) -> None:
    async with open_program((80, 24)) as tui:
        said = " ".join(" ".join(tui.lines()).split())
        assert "This library is empty." in said
        assert "assetmgr scan FOLDER" in said
        assert tui.app.screen.query_one(TitleBar).totals == "0 assets"


async def test_the_keys_for_an_asset_do_nothing_without_one(open_program: Open) -> None:
    async with open_program((80, 24)) as tui:
        await tui.press("j", "G", "p", "c", "t", "y", "enter", "x")
        assert tui.script.asked == []
        assert tui.app.screen.query_one(Details).asset is None
        assert tui.app.is_running
