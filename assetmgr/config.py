"""The user's settings: `config.toml`, overridden by environment variables."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from assetmgr.paths import Paths
from converters.bases import Base
from converters.errors import BadValue


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user can choose; every field is a key of `config.toml`.

    `database_url` is a SQLAlchemy URL (None: SQLite in the state's folder), `preview_base` names
    the checkpoint that adapters of its family are rendered on (None: the most complete one of the
    library), `preview_bases` is a table of such checkpoints by family. `images` says how thumbnails
    are drawn in the terminal: auto, graphics (ask the terminal for its own), halfblock or off.

    `models` is the folder where downloads go (None: in the state's folder), `models_layout` the
    program whose folders by kind lie in it (None: our own). `download_rate` limits all transfers
    together, as in `5MB` for five megabytes a second (None: no limit), `downloads_at_once` how many
    there are at a time and `downloads_per_host` how many of them from one host.
    """

    database_url: str | None = None
    preview_base: str | None = None
    images: str = "auto"
    preview_bases: Mapping[str, str] = field(default_factory=dict)
    models: str | None = None
    models_layout: str | None = None
    download_rate: str | None = None
    downloads_at_once: str = "12"
    downloads_per_host: str = "8"


TABLES = ("preview_bases",)
"""Settings that are tables of texts by family."""

IMAGES = ("auto", "graphics", "halfblock", "off")


def load_settings(paths: Paths, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force. Raises BadValue naming the file and the key that is wrong."""
    values = _read(paths)
    url = environment.get("ASSETMGR_DATABASE_URL")
    if url:
        values["database_url"] = url
    settings = Settings(**values)
    if settings.images not in IMAGES:
        raise BadValue(f"images must be one of {', '.join(IMAGES)}", path=paths.config)
    return settings


def _read(paths: Paths) -> dict[str, Any]:
    try:
        document = tomllib.loads(paths.config.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadValue(f"cannot be read: {error.strerror}", path=paths.config) from error
    except ValueError as error:
        raise BadValue(f"is not TOML: {error}", path=paths.config) from error
    known = {setting.name for setting in fields(Settings)}
    for key, value in document.items():
        if key not in known:
            raise BadValue(f"unknown setting {key!r}", path=paths.config)
        if key in TABLES:
            _check_table(paths, key, value)
        elif not isinstance(value, str):
            raise BadValue(f"setting {key} must be a text", path=paths.config)
    return document


def _check_table(paths: Paths, key: str, table: object) -> None:
    families = {str(base) for base in Base}
    if not isinstance(table, dict) or not all(isinstance(text, str) for text in table.values()):
        raise BadValue(f"setting {key} must be a table of texts", path=paths.config)
    for family in table:
        if family not in families:
            raise BadValue(f"setting {key} has no family {family!r}", path=paths.config)
