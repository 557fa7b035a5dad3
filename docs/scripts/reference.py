"""The reference pages that are made from the code: commands, queries, keys, settings.

`python -m docs.scripts.reference` writes them; a test compares them with what it would write.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from assetmgr.cli.main import COMMANDS, cli
from assetmgr.config import SETTINGS
from registry.query.order import ORDERS
from registry.query.parser import FILTERS, STATES
from tui import keymap

FOLDER = Path(__file__).parents[1] / "reference"
_WIDTH = 88
_MADE = "<!-- made by docs/scripts/reference.py from the code: change that -->"

_ASKS = {
    "kind": ("kind:lora", "a kind, as in the table of kinds"),
    "base": ("base:sdxl", "a model family"),
    "variant": ("variant:inpaint", "what sets it apart in its family"),
    "container": ("container:torch-zip", "how its bytes are packed"),
    "layout": ("layout:kohya", "how its tensors are named"),
    "algorithm": ("algorithm:loha", "an adapter that holds this algorithm"),
    "tag": ('tag:"line art"', "a tag, in full"),
    "rating": ("rating:>=3", "stars, from 0 to 5; also `>` `<` `<=`"),
    "hash": ("hash:ab12cd", "the beginning of any of its hashes"),
    "size": ("size:>1gb", "bytes, with `kb` `mb` `gb` or `kib` `mib` `gib`; also `<` `>=` `<=`"),
    "verdict": ("verdict:failed", "of its preview: `ok`, `failed`, `none`"),
    "safety": ("safety:dangerous", "`safe`, `suspicious`, `dangerous`"),
    "is": ("is:duplicate", "a state, as below"),
    "path": ("path:/models/old", "a part of the path of one of its files"),
}
_STATES = {
    "duplicate": "its bytes lie in more than one place",
    "missing": "none of its files is there",
    "offline": "its files are on a disk that is not there now",
    "unsafe": "its safety verdict is not `safe`",
    "contradicted": "a hash that somebody claims for it is not the one that was read",
}


def commands() -> str:
    """Every command with click's own help."""
    parts = [_MADE, "# Commands", _INTRODUCTION]
    top = _context(cli, "assetmgr", None)
    for name in COMMANDS:
        command = cli.get_command(top, name)
        assert command is not None
        parts += _command(command, top, name)
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """\
What each prints with `--json` stands in [JSON documents](../json.md), how assets are chosen in
[Queries](queries.md). Exit codes: 0 all done, 1 an item failed or a check found something, 2 the
call is wrong, 3 a needed setting, model or network resource is missing, 130 interrupted."""
_LANGUAGE = """\
`assetmgr list`, the filter line of the terminal UI and every option `--query` take the same
language. Words stand for what their letters are part of: name, tags, notes, trigger words,
metadata and sidecars. `"A phrase"` stays together, `-` in front of a word or filter negates it,
and all that is said must hold."""
_WRITTEN = """\
`assetmgr config set KEY VALUE` writes them into `config.toml` under `ASSETMGR_HOME` (`assetmgr
config path` tells where), and leaves comments and order alone."""


def _command(command: click.Command, parent: click.Context, name: str) -> Iterator[str]:
    context = _context(command, name, parent)
    words = context.command_path
    yield f"{'#' * len(words.split())} `{words}`"
    yield f"```text\n{_tidy(command.get_help(context))}\n```"
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            inner = command.get_command(context, verb)
            assert inner is not None
            yield from _command(inner, context, verb)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    """What the command is called in, with settings of its own as in a real call."""
    widths = {"terminal_width": _WIDTH, "max_content_width": _WIDTH}
    return click.Context(
        command, info_name=name, parent=parent, **{**widths, **command.context_settings}
    )


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def queries() -> str:
    """The query language: filters, states and orders."""
    rows = [(f"`{_ASKS[name][0]}`", _ASKS[name][1]) for name in FILTERS]
    states = [(f"`is:{name}`", _STATES[name]) for name in STATES]
    orders = ", ".join(f"`{name}`" for name in ORDERS)
    return (
        "\n\n".join(
            [
                _MADE,
                "# Queries",
                _LANGUAGE,
                _table(("filter", "finds"), rows),
                "## States",
                _table(("filter", "finds"), states),
                "## Orders",
                f"`--sort` takes {orders}; a `-` in front descends.",
            ]
        )
        + "\n"
    )


def keys() -> str:
    """Every key of the terminal UI."""
    groups = (
        *keymap.GROUPS,
        keymap.READ,
        keymap.JOBS,
        keymap.DUPLICATES,
        keymap.INSIDE,
        keymap.HUB,
    )
    parts = [_MADE, "# Keys of the terminal UI", "`?` shows those of the screen one is on."]
    for group in groups:
        rows = [(_code(key.shown), key.meaning) for key in group.keys]
        parts += [f"## {group.title}", _table(("key", "does"), rows)]
    return "\n\n".join(parts) + "\n"


def settings() -> str:
    """Every key of `config.toml`."""
    rows = [
        (
            f"`{row.name}`",
            row.about,
            ", ".join(f"`{choice}`" for choice in row.choices) or row.form_name or "any text",
            f"`{row.default}`" if row.default else "none",
            f"`{row.variable}`" if row.variable else "",
        )
        for row in SETTINGS
    ]
    heads = ("setting", "for", "values", "default", "variable that wins")
    return (
        "\n\n".join(
            [
                _MADE,
                "# Settings",
                _WRITTEN,
                _table(heads, rows),
            ]
        )
        + "\n"
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _code(keys: str) -> str:
    return " ".join(f"`{key}`" for key in keys.split())


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "queries.md": queries,
    "keys.md": keys,
    "settings.md": settings,
}
"""Name of a page -> its text."""


def main() -> int:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in PAGES.items():
        (FOLDER / name).write_text(text(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
