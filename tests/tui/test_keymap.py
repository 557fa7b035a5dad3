"""One table makes the bindings, the footer and the help."""

from __future__ import annotations

from tui import keymap
from tui.screens.library import LibraryScreen
from tui.widgets.asset_list import AssetList


def test_no_key_means_two_things_in_one_place() -> None:
    for groups in (keymap.SCREEN, (keymap.MOVE,)):
        keys = [name for group in groups for key in group.keys for name in key.keys.split(",")]
        assert len(keys) == len(set(keys))


def test_every_key_has_an_action_and_a_sentence() -> None:
    for group in keymap.GROUPS:
        owner = AssetList if group is keymap.MOVE else LibraryScreen
        for key in group.keys:
            assert key.meaning
            name = key.action.split("(")[0]
            assert name == "app.quit" or hasattr(owner, f"action_{name}"), key
