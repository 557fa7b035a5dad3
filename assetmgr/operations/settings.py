"""Looking at settings and changing them in `config.toml`, which stays as its user wrote it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assetmgr.config import Settings, find_setting, load_settings, read_settings
from converters.errors import BadValue
from converters.writers.atomic import write_whole
from registry.text import storable

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace


def change_setting(workspace: Workspace, key: str, value: str | None) -> Settings:
    """Give a setting a value, or with None its default, and give the settings as they are then.

    The workspace uses them from now on, but for the database. Raises BadValue for a key or value
    that means nothing (nothing is changed then) and for a file that cannot be read; WriteProblem.
    """
    row, entry = find_setting(key)
    fault = None if value is None else row.fault(value)
    if row.entries and entry is None and value is not None:
        fault = f"{row.name} is a table: name one of it, as {row.name}.{row.entries[0]}"
    if value is not None and not storable(value):  # of a path, say, in a locale without UTF-8
        fault = f"{row.name} is no text that the file can hold"
    if fault:
        raise BadValue(fault)
    load_settings(workspace.paths)  # a broken file is named and left alone
    path = Path(os.path.realpath(workspace.paths.config))  # settings are often links into a backup
    before = path.read_text("utf-8") if path.is_file() else ""
    text = _changed(before, row.name, entry, value)
    read_settings(text, workspace.paths)  # what is written can be read
    if text != before:
        mode = _mode(path)
        write_whole(path, text.encode("utf-8"), overwrite=True, mode=mode)
        with contextlib.suppress(OSError):  # where a disk keeps no modes
            path.chmod(mode)  # what the umask took from a new file, the old one had
    workspace.settings = load_settings(workspace.paths)
    return workspace.settings


def _mode(path: Path) -> int:
    """As the file has it; a new one is its owner's alone, because a URL may hold a password."""
    return stat.S_IMODE(path.stat().st_mode) if path.is_file() else 0o600


def _changed(text: str, name: str, entry: str | None, value: str | None) -> str:
    """The document with one value replaced, added or removed; comments and order stay."""
    import tomlkit

    document = tomlkit.parse(text)
    if entry is None:
        _put(document, name, value)
        return tomlkit.dumps(document)
    if name not in document:
        document[name] = tomlkit.table()
    table: Any = document[name]
    _put(table, entry, value)
    if not table:
        del document[name]
    return tomlkit.dumps(document)


def _put(table: Any, key: str, value: str | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
