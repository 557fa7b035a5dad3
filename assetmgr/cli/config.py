"""`assetmgr config`."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from assetmgr.cli.options import Session, common_options
from assetmgr.config import (
    DEFAULT,
    ENVIRONMENT,
    NAMES,
    SETTINGS,
    Given,
    find_setting,
    given_settings,
)
from assetmgr.operations.settings import change_setting
from assetmgr.paths import find_paths
from assetmgr.text import plain
from assetmgr.workspace import Workspace


@click.group(
    invoke_without_command=True,
    epilog="Example: assetmgr config set preview_base '#12'\n\nSettings: " + ", ".join(NAMES),
)
@common_options
@click.pass_context
def config(context: click.Context) -> int:
    """Look at the settings, or change one; without more all are listed."""
    return 0 if context.invoked_subcommand else int(context.invoke(get))


class _Key(click.ParamType[str]):
    """The name of a setting; the operation refuses others."""

    name = "key"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names there are, each with what it is for."""
        begin = [row for row in SETTINGS if row.name.startswith(incomplete)]
        if begin:
            return [CompletionItem(row.name, help=row.about) for row in begin]
        keys = [f"{row.name}.{entry}" for row in SETTINGS for entry in row.entries]
        return [CompletionItem(key) for key in keys if key.startswith(incomplete)]


def _values_of_key(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    known = [row.choices for row in SETTINGS if row.name == ctx.params.get("key")]
    return [
        CompletionItem(word) for words in known for word in words if word.startswith(incomplete)
    ]


@config.command(epilog="Example: assetmgr config get preview_base")
@click.argument("key", required=False, type=_Key())
@common_options
@click.pass_obj
def get(session: Session, key: str | None = None) -> int:
    """Print the value of a setting, or all settings with where their values are from."""
    wanted = list(given_settings(find_paths())) if key is None else _of_key(key)
    if session.as_json:
        _print_json(session, wanted)
    elif key is None or len(wanted) > 1:
        _print_table(session, wanted)
    else:
        session.output.line(plain(wanted[0].shown or ""))
    return session.status


def _of_key(key: str) -> list[Given]:
    """The value under a key, or all of a table. Raises BadValue."""
    row, entry = find_setting(key)
    given = [each for each in given_settings(find_paths()) if each.setting is row]
    if entry is None:
        return given
    named = [each for each in given if each.key == key]
    return named or [Given(key, row, row.default, DEFAULT)]


@config.command("set", epilog="Example: assetmgr config set images halfblock")
@click.argument("key", type=_Key())
@click.argument("value", shell_complete=_values_of_key)
@common_options
@click.pass_obj
def set_(session: Session, key: str, value: str) -> int:
    """Change a setting in the settings file; the rest of the file stays as it is."""
    return _change(session, key, value)


@config.command(epilog="Example: assetmgr config unset preview_base")
@click.argument("key", type=_Key())
@common_options
@click.pass_obj
def unset(session: Session, key: str) -> int:
    """Give a setting its default again."""
    return _change(session, key, None)


@config.command(epilog="Example: assetmgr config path")
@common_options
@click.pass_obj
def path(session: Session) -> int:
    """Print where the settings file is; it need not be there."""
    if session.as_json:
        session.output.document(_place())
    else:
        session.output.line(plain(str(find_paths().config)))
    return session.status


def _change(session: Session, key: str, value: str | None) -> int:
    with Workspace.open() as workspace:
        change_setting(workspace, key, value)
    given = _of_key(key)
    for each in given:
        if each.origin == ENVIRONMENT:
            session.warn(f"{each.setting.variable} is set and wins over the file")
        if not session.as_json:
            session.output.line(f"{each.key} = {plain(each.shown or '')} ({each.origin})")
    if session.as_json:
        _print_json(session, given)
    return session.status


def _print_table(session: Session, given: list[Given]) -> None:
    rows = [(each.key, each.shown or "-", each.origin, _about(each)) for each in given]
    session.output.table(("setting", "value", "from", "what it is"), rows)


def _about(given: Given) -> str:
    choices = given.setting.choices
    return given.setting.about + (f": {', '.join(choices)}" if choices else "")


def _print_json(session: Session, given: list[Given]) -> None:
    settings = [
        {
            "name": each.key,
            "value": each.shown,
            "origin": each.origin,
            "variable": each.setting.variable,
            "choices": list(each.setting.choices),
            "about": each.setting.about,
        }
        for each in given
    ]
    session.output.document({**_place(), "settings": settings})


def _place() -> dict[str, object]:
    file = find_paths().config
    return {"path": str(file), "exists": file.is_file(), "errors": []}
