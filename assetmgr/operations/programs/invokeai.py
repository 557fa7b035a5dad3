"""InvokeAI: `invokeai.yaml` may move the folder of models. Its database is left alone.

Keys: `invoke-ai/InvokeAI` `invokeai/app/services/config/config_default.py`; until version 4 they
were in sections.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assetmgr.operations.programs.configuration import Configuration, has

_KEY = "models_dir"


def title(_: Path) -> str:
    """Its name."""
    return "InvokeAI"


def is_root(root: Path) -> bool:
    """Whether this is the folder of its settings."""
    return has(root, "invokeai.yaml") or has(root, "databases", "databases/invokeai.db")


def folders(configuration: Configuration) -> Iterator[Path]:
    """The folder of models, in either form of the file."""
    settings = configuration.yaml("invokeai.yaml")
    yield from configuration.folder(settings.get(_KEY))
    sections = settings.get("InvokeAI")
    for section in sections.values() if isinstance(sections, dict) else ():
        if isinstance(section, dict):
            yield from configuration.folder(section.get(_KEY))
