"""StabilityMatrix: `settings.json` may put the folder of models elsewhere.

Key: `LykosAI/StabilityMatrix` `StabilityMatrix.Core/Models/Settings/Settings.cs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assetmgr.operations.programs.configuration import Configuration, has

_PLACES = ("Data/settings.json", "settings.json")


def title(_: Path) -> str:
    """Its name."""
    return "StabilityMatrix"


def is_root(root: Path) -> bool:
    """Whether its data lie here, or beside the program when it is portable."""
    return has(root, "Data/settings.json", "Data/Packages") or has(
        root, "settings.json", "Packages", "Models"
    )


def folders(configuration: Configuration) -> Iterator[Path]:
    """The folder that takes the place of its own."""
    for place in _PLACES:
        settings = configuration.json(place)
        yield from configuration.folder(settings.get("ModelDirectoryOverride"))
