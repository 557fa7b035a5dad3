"""kohya's scripts and their window: `config.toml` says where models are and trained ones go.

Keys: `bmaltais/kohya_ss` `config example.toml`; they are in tables of several names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from assetmgr.operations.programs.configuration import Configuration, has

_KEYS = ("models_dir", "output_dir")


def title(_: Path) -> str:
    """Its name."""
    return "kohya"


def is_root(root: Path) -> bool:
    """Whether the scripts, or the window to them, lie here."""
    return has(root, "kohya_gui.py") or has(root, "train_network.py", "library")


def folders(configuration: Configuration) -> Iterator[Path]:
    """The folders in its settings."""
    settings = configuration.toml("config.toml")
    tables: list[Mapping[str, object]] = [settings]
    tables += [table for table in settings.values() if isinstance(table, dict)]
    for table in tables:
        for key in _KEYS:
            yield from configuration.folder(table.get(key))
