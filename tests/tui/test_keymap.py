"""One table makes the bindings, the footer and the help."""

from __future__ import annotations

from assetmgr.cli.main import COMMANDS
from tui import keymap
from tui.app import AssetManagerApp
from tui.screens.duplicates import DuplicatesScreen
from tui.screens.hub import HubScreen
from tui.screens.inside import InsideScreen
from tui.screens.jobs import JobsScreen
from tui.screens.library import LibraryScreen
from tui.widgets.asset_list import AssetList


def test_no_key_means_two_things_in_one_place() -> None:
    others = (keymap.JOBS, keymap.DUPLICATES, keymap.INSIDE, keymap.HUB)
    places = ((*keymap.SCREEN, keymap.MOVE, keymap.MARK), *((keymap.MOVE, each) for each in others))
    for groups in places:
        keys = [name for group in groups for key in group.keys for name in key.keys.split(",")]
        assert len(keys) == len(set(keys))


def test_every_key_has_an_action_and_a_sentence() -> None:
    owners = {
        keymap.MOVE: AssetList,
        keymap.MARK: AssetList,
        keymap.SIDE: AssetList,
        keymap.JOBS: JobsScreen,
        keymap.DUPLICATES: DuplicatesScreen,
        keymap.INSIDE: InsideScreen,
        keymap.HUB: HubScreen,
    }
    for group in {*keymap.GROUPS, *owners}:
        owner = owners.get(group, LibraryScreen)
        for key in group.keys:
            assert key.meaning
            name = key.action.split("(")[0]
            action = name.removeprefix("app.")
            target = AssetManagerApp if name.startswith("app.") else owner
            assert hasattr(target, f"action_{action}"), key


FACES = {
    "inspect": "i",
    "scan": "r",
    "list": "slash",
    "show": "enter",
    "lineage": "enter",
    "tag": "t",
    "note": "N",
    "rate": "0,1,2,3,4,5",
    "diff": "equals_sign",
    "duplicates": "d",
    "link": "L",
    "sidecar": "W",
    "export": "E",
    "import": "I",
    "forget": "delete",
    "move": "M",
    "rename": "M",
    "trash": "X",
    "restore": "B",
    "verify": "V",
    "convert": "c",
    "merge": "m",
    "extract": "e",
    "resize": "z",
    "preview": "p",
    "hub": "H",
    "civitai": "H",
    "downloads": "J",
    "config": "comma",
    "login": "comma",
    "logout": "comma",
    "doctor": "D",
}
"""Command -> the key that does the same on the library screen, or leads to where one key does."""
WITHOUT = {"tui", "demo", "hash"}
"""The program itself; what has a library of its own; what every scan does."""


def test_every_command_is_within_two_keys() -> None:
    keys = {key.keys for group in keymap.GROUPS for key in group.keys}
    assert FACES.keys() | WITHOUT == COMMANDS.keys()
    assert set(FACES.values()) <= keys
