"""The user's settings: a table of keys, read from `config.toml` and the environment.

To add a setting: a field in `Settings` and a row in `SETTINGS`; reading, `assetmgr config` and its
help follow from these. Values are texts; a setting may be a table of texts under names.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from assetmgr.paths import Paths
from assetmgr.rates import RATE
from converters.bases import Base
from converters.errors import BadValue

DEFAULT: Final = "default"
FILE: Final = "file"
ENVIRONMENT: Final = "environment"


@dataclass(frozen=True, slots=True)
class Settings:
    """The values in force; what each is for stands in `SETTINGS`."""

    database_url: str | None = None
    preview_base: str | None = None
    images: str = "auto"
    preview_bases: Mapping[str, str] = field(default_factory=dict)
    ray: str | None = None
    models: str | None = None
    models_layout: str | None = None
    download_rate: str | None = None
    downloads_at_once: str = "32"
    downloads_per_host: str = "24"


LAYOUTS = (
    *("comfyui", "a1111", "forge", "sdnext", "invokeai", "fooocus", "stabilitymatrix", "kohya"),
)
"""Programs whose folders are known: the rows of `operations.layouts`."""

IMAGES = ("auto", "graphics", "halfblock", "off")
_COUNT = re.compile(r"100|[1-9][0-9]?")
_URL = re.compile(r"[a-z][a-z0-9_+]*://.*", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=:)(?!//).*(?=@)|(?<=password=)[^&]+", re.IGNORECASE)


def _as_it_is(value: str) -> str:
    return value


def _without_password(url: str) -> str:
    return _PASSWORD.sub("***", url)


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of `config.toml`: what it is for, and which values it takes.

    `default` is told to people. `variable` is the environment variable that wins over the file.
    `choices` are all values there are, `form` the pattern of a whole value and `form_name` its
    description. `shown` is how a value may be printed: secrets are not. A setting with `entries` is
    a table with values under these names, each with the key `<name>.<entry>`.
    """

    name: str
    about: str
    default: str | None = None
    variable: str | None = None
    choices: tuple[str, ...] = ()
    form: re.Pattern[str] | None = None
    form_name: str = ""
    shown: Callable[[str], str] = _as_it_is
    entries: tuple[str, ...] = ()

    def fault(self, value: object) -> str | None:
        """What is wrong with a value, None if nothing is; secrets are not in it."""
        if not isinstance(value, str):
            return f"setting {self.name} must be a text"
        if self.choices and value not in self.choices:
            return f"{self.name} must be one of {', '.join(self.choices)}"
        if self.form is not None and not self.form.fullmatch(value):
            return f"{self.name} must be {self.form_name}"
        return None


SETTINGS = (
    Setting(
        "database_url",
        "SQLAlchemy URL of the library; without one library.db beside the settings",
        variable="ASSETMGR_DATABASE_URL",
        form=_URL,
        form_name="a database URL, as in sqlite:////path/library.db",
        shown=_without_password,
    ),
    Setting(
        "preview_base",
        "the checkpoint that adapters of its family are rendered on: path, #ID, hash or name; "
        "without one the most complete of the library",
    ),
    Setting(
        "preview_bases",
        "such checkpoints by family, as preview_bases.sdxl",
        entries=tuple(str(base) for base in Base),
    ),
    Setting(
        "ray",
        "the Ray cluster that preview --all and convert spread their work over: HOST:PORT, auto "
        "for one that runs on this machine, or local to start one",
    ),
    Setting("images", "how the terminal UI draws pictures", default="auto", choices=IMAGES),
    Setting("models", "the folder where downloads go; without one `models` beside the settings"),
    Setting(
        "models_layout",
        "the program whose folders by kind lie in it; without one our own",
        choices=LAYOUTS,
    ),
    Setting(
        "download_rate",
        "the most that all downloads together bring in a second; without one no limit",
        form=RATE,
        form_name="a rate, such as 5MB or 500kB",
    ),
    Setting(
        "downloads_at_once",
        "so many downloads at a time",
        default="32",
        form=_COUNT,
        form_name="a number from 1 to 100",
    ),
    Setting(
        "downloads_per_host",
        "so many of them from one service",
        default="24",
        form=_COUNT,
        form_name="a number from 1 to 100",
    ),
)
NAMES = tuple(setting.name for setting in SETTINGS)


@dataclass(frozen=True, slots=True)
class Given:
    """A value under its key, and where it is from: `default`, `file` or `environment`."""

    key: str
    setting: Setting
    value: str | None
    origin: str

    @property
    def shown(self) -> str | None:
        """The value as it may be printed."""
        return None if self.value is None else self.setting.shown(self.value)


def find_setting(key: str) -> tuple[Setting, str | None]:
    """The row of a key, and the entry that it names in a table. Raises BadValue saying which are.

    A table by itself has the entry None.
    """
    name, dot, entry = key.partition(".")
    row = next((setting for setting in SETTINGS if setting.name == name), None)
    if row is None or (dot and not row.entries):
        raise BadValue(f"unknown setting {key!r}; there are {', '.join(NAMES)}")
    if dot and entry not in row.entries:
        raise BadValue(f"{name} has no {entry!r}", hint=f"there are {', '.join(row.entries)}")
    return row, entry or None


def load_settings(paths: Paths, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force. Raises BadValue naming the file and the key that is wrong."""
    values = read_settings(_text(paths), paths)
    return Settings(**(values | _of_environment(environment)))


def given_settings(paths: Paths, environment: Mapping[str, str] = os.environ) -> tuple[Given, ...]:
    """Every setting, of tables each entry, with where its value is from. Raises BadValue."""
    values, stated = read_settings(_text(paths), paths), _of_environment(environment)
    return tuple(each for row in SETTINGS for each in _given(row, values, stated))


def read_settings(text: str, paths: Paths) -> dict[str, Any]:
    """The values in the text of a settings file, by name. Raises BadValue naming file and key."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        raise BadValue(f"is not TOML: {error}", path=paths.config) from error
    values = {name: _as_text(name, value) for name, value in document.items()}
    for name, value in values.items():
        fault = _fault(name, value)
        if fault:
            raise BadValue(fault, path=paths.config)
    return values


def _as_text(name: str, value: object) -> object:
    """A whole number of a setting that has a form is as good without the quotes."""
    has_form = any(row.name == name and row.form for row in SETTINGS)
    return str(value) if has_form and type(value) is int else value


def _fault(name: str, value: object) -> str | None:
    row = next((setting for setting in SETTINGS if setting.name == name), None)
    if row is None:
        return f"unknown setting {name!r}; there are {', '.join(NAMES)}"
    if not row.entries:
        return row.fault(value)
    if not isinstance(value, dict) or any(map(row.fault, value.values())):
        return f"setting {name} must be a table of texts"
    unknown = next((entry for entry in value if entry not in row.entries), None)
    return None if unknown is None else f"setting {name} has no {unknown!r}"


def _of_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    named = {row.name: environment.get(row.variable) for row in SETTINGS if row.variable}
    return {name: value for name, value in named.items() if value}


def _given(row: Setting, values: Mapping[str, Any], stated: Mapping[str, str]) -> Iterator[Given]:
    if row.name in stated:
        yield Given(row.name, row, stated[row.name], ENVIRONMENT)
    elif not values.get(row.name):
        yield Given(row.name, row, row.default, DEFAULT)
    elif row.entries:
        for entry, value in values[row.name].items():
            yield Given(f"{row.name}.{entry}", row, value, FILE)
    else:
        yield Given(row.name, row, values[row.name], FILE)


def _text(paths: Paths) -> str:
    try:
        return paths.config.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BadValue(f"cannot be read: {error.strerror}", path=paths.config) from error
    except ValueError as error:
        raise BadValue(f"is not TOML: {error}", path=paths.config) from error
