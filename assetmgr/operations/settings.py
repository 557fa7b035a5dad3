"""Looking at settings and changing them in `config.toml`, which stays as its user wrote it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from assetmgr.config import Settings, load_settings, setting_named, settings_in
from converters.errors import BadValue
from converters.writers.atomic import write_whole

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


def change_setting(workspace: Workspace, name: str, value: str | None) -> Settings:
    """Give a setting a value, or with None its default, and give the settings as they are then.

    The workspace uses them from now on, but for the database. Raises BadValue for a setting or
    value that means nothing (nothing is changed then) and for a file that cannot be read;
    WriteProblem.
    """
    setting = setting_named(name)
    fault = None if value is None else setting.fault(value)
    if fault:
        raise BadValue(fault)
    load_settings(workspace.paths)  # a broken file is named and left alone
    path = Path(os.path.realpath(workspace.paths.config))  # settings are often links into a backup
    before = path.read_text("utf-8") if path.is_file() else ""
    text = _changed(before, name, value)
    settings_in(text, workspace.paths)  # what is written can be read
    if text != before:
        write_whole(path, text.encode("utf-8"), overwrite=True, mode=_mode(path))
    workspace.settings = load_settings(workspace.paths)
    return workspace.settings


def _mode(path: Path) -> int:
    """As the file has it; a new one is its owner's alone, because a URL may hold a password."""
    return stat.S_IMODE(path.stat().st_mode) if path.is_file() else 0o600


def _changed(text: str, name: str, value: str | None) -> str:
    """The document with one value replaced, added or removed; comments and order stay."""
    import tomlkit

    document = tomlkit.parse(text)
    if value is None:
        document.pop(name, None)
    else:
        document[name] = value
    return tomlkit.dumps(document)
