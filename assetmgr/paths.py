"""Where the program keeps its state."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Paths:
    """The folder of the state and what lies in it; nothing is created by naming it."""

    home: Path

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.home / "config.toml"

    @property
    def database(self) -> Path:
        """The library of the default database."""
        return self.home / "library.db"

    @property
    def database_url(self) -> str:
        """Its URL; what stands for itself in a path need not in a URL."""
        path = self.database.as_posix().replace("%", "%25").replace("?", "%3F")
        return f"sqlite:///{path}"

    @property
    def preferences(self) -> Path:
        """What the terminal UI remembers."""
        return self.home / "preferences.json"

    @property
    def faults(self) -> Path:
        """What went wrong in the program itself."""
        return self.home / "faults.log"

    @property
    def machine(self) -> Path:
        """The name of this machine in a library that several share."""
        return self.home / "machine.toml"

    @property
    def tokens(self) -> Path:
        """The tokens of services, or where they are kept."""
        return self.home / "tokens.json"

    @property
    def cache(self) -> Path:
        """Answers of services, which may be thrown away."""
        return self.home / "cache"

    @property
    def previews(self) -> Path:
        """Rendered pictures and their thumbnails."""
        return self.home / "previews"

    @property
    def downloads(self) -> Path:
        """The queue of downloads."""
        return self.home / "downloads"

    @property
    def models(self) -> Path:
        """Where downloads go when no folder is named."""
        return self.home / "models"


def find_paths(environment: Mapping[str, str] = os.environ) -> Paths:
    """The state's folder: `ASSETMGR_HOME`, else the platform's folder for user data."""
    home = environment.get("ASSETMGR_HOME")
    if home:
        return Paths(Path(home).expanduser().absolute())
    import platformdirs

    return Paths(Path(platformdirs.user_data_dir("assetmgr", appauthor=False)))
