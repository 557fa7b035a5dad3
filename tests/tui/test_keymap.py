"""One table makes the bindings, the footer and the help."""

from __future__ import annotations

from collections.abc import Iterator

import click

from assetmgr.cli.main import cli
from tui import keymap
from tui.app import AssetManagerApp
from tui.screens.duplicates import DuplicatesScreen
from tui.screens.hub import HubScreen
from tui.screens.inside import InsideScreen
from tui.screens.jobs import JobsScreen
from tui.screens.library import LibraryScreen
from tui.screens.picture import PictureScreen
from tui.widgets.asset_list import AssetList


def test_no_key_means_two_things_in_one_place() -> None:
    others = (keymap.JOBS, keymap.DUPLICATES, keymap.INSIDE, keymap.HUB)
    picture = (keymap.READ, keymap.PICTURE)
    library = (*keymap.SCREEN, keymap.MOVE, keymap.MARK)
    places = (library, picture, *((keymap.MOVE, each) for each in others))
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
        keymap.PICTURE: PictureScreen,
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
    "inspect": "i F",
    "scan": "r",
    "list": "slash",
    "show": "enter",
    "lineage show": "enter",
    "lineage explain": "w",
    "tag": "t",
    "note": "N",
    "rate": "0,1,2,3,4,5",
    "diff": "equals_sign",
    "duplicates": "d",
    "link": "L",
    "sidecar write": "W",
    "export": "E",
    "import": "I",
    "forget": "delete U",
    "move": "M",
    "rename": "M",
    "trash": "X",
    "restore": "B",
    "verify": "V Z",
    "convert": "c",
    **dict.fromkeys(
        (
            "merge adapters",
            "merge adapters-into-one",
            "merge checkpoints",
            "merge embeddings",
            "merge replay",
        ),
        "m",
    ),
    **dict.fromkeys(
        (
            "extract embeddings",
            "extract full",
            "extract lora",
            "extract text-encoder",
            "extract text-encoder-2",
            "extract unet",
            "extract vae",
        ),
        "e",
    ),
    "resize": "z",
    "preview": "p P C",
    "hub download": "H",
    "hub info": "H",
    "hub peek": "H",
    "hub search": "H",
    "hub updates": "H",
    "civitai download": "H",
    "civitai enrich": "K",
    "civitai info": "H",
    "civitai lookup": "A",
    "civitai peek": "H",
    "civitai search": "H",
    "civitai updates": "H",
    **dict.fromkeys(
        (
            "downloads cancel",
            "downloads clear",
            "downloads list",
            "downloads move",
            "downloads pause",
            "downloads resume",
            "downloads run",
        ),
        "J",
    ),
    **dict.fromkeys(("config get", "config path", "config set", "config unset"), "comma"),
    "login": "comma",
    "logout": "comma",
    "doctor": "D",
}
"""Command -> the keys that do the same on the library screen, or lead to where one key does."""
WITHOUT = {"tui", "demo", "hash"}
"""The program itself; what has a library of its own; what every scan does."""


def commands(command: click.Command, name: str = "") -> Iterator[str]:
    """The names of a command, or of all below it."""
    if not isinstance(command, click.Group):
        yield name
        return
    with click.Context(command) as context:
        for word in command.list_commands(context):
            below = command.get_command(context, word)
            assert below is not None
            yield from commands(below, f"{name} {word}".strip())


def test_every_command_is_within_two_keys() -> None:
    keys = {key.keys for group in keymap.GROUPS for key in group.keys}
    assert sorted(commands(cli)) == sorted([*FACES, *WITHOUT])
    assert {key for faces in FACES.values() for key in faces.split()} <= keys
