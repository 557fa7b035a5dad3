"""Changing a setting in `config.toml`, which stays as its user wrote it otherwise."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import TYPE_CHECKING

from assetmgr.config import TABLES, Settings, load_settings
from converters.errors import BadValue
from converters.writers.atomic import write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace

NAMES = tuple(field.name for field in fields(Settings) if field.name not in TABLES)


def change_setting(workspace: Workspace, name: str, value: str | None) -> Settings:
    """Give a setting a value, or with None its default, and give the settings as they are then.

    The workspace uses them from now on, but for the database. Raises BadValue for a setting or
    value that means nothing (nothing is changed then) and for a file that cannot be read;
    WriteProblem.
    """
    if name not in NAMES:
        raise BadValue(f"unknown setting {name!r}; there are {', '.join(NAMES)}")
    path = workspace.paths.config
    before = path.read_bytes() if path.is_file() else None
    load_settings(workspace.paths)  # a broken file is named and left alone
    text = _changed((before or b"").decode("utf-8"), name, value)
    write_whole(path, text.encode("utf-8"), overwrite=True)
    try:
        workspace.settings = load_settings(workspace.paths)
    except BadValue:
        write_whole(path, before or b"", overwrite=True)
        raise
    return workspace.settings


def _changed(text: str, name: str, value: str | None) -> str:
    """The document with one line replaced, added or removed; all our settings are top-level."""
    line = None if value is None else f"{name} = {_quoted(value)}"
    pattern = re.compile(rf"^[ \t]*(?:{name}|\"{name}\")[ \t]*=.*$\n?", re.MULTILINE)
    rest = pattern.sub("", text)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return rest if line is None else f"{line}\n{rest}"


def _quoted(value: str) -> str:
    """A basic string (https://toml.io/en/v1.0.0#string): JSON's escapes, and DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
