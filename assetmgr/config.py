"""The user's settings: a table of keys, read from `config.toml` and the environment.

To add a setting: a field in `Settings` and a row in `SETTINGS`; reading, `assetmgr config` and its
help follow from these. Values are texts.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Final

from assetmgr.paths import Paths
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


IMAGES = ("auto", "graphics", "halfblock", "off")
_URL = re.compile(r"[a-z][a-z0-9_+]*://.*", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=:)(?!//).*(?=@)|(?<=password=)[^&]+", re.IGNORECASE)


def _as_it_is(value: str) -> str:
    return value


def _without_password(url: str) -> str:
    return _PASSWORD.sub("***", url)


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of `config.toml`: what it is for, and which values it takes.

    `variable` is the environment variable that wins over the file. `choices` are all values there
    are, `form` the pattern of a whole value with its `form_name` for people. `shown` is how a value
    may be printed: secrets are not.
    """

    name: str
    about: str
    variable: str | None = None
    choices: tuple[str, ...] = ()
    form: re.Pattern[str] | None = None
    form_name: str = ""
    shown: Callable[[str], str] = _as_it_is

    def fault(self, value: str) -> str | None:
        """What is wrong with a value, None if nothing is; secrets are not in it."""
        if self.choices and value not in self.choices:
            return f"{self.name} must be one of {', '.join(self.choices)}"
        if self.form is not None and not self.form.fullmatch(value):
            return f"{self.name} must be {self.form_name}"
        return None


SETTINGS = (
    Setting(
        "database_url",
        "SQLAlchemy URL of the library; default: library.db beside the settings",
        variable="ASSETMGR_DATABASE_URL",
        form=_URL,
        form_name="a database URL, as in sqlite:////path/library.db",
        shown=_without_password,
    ),
    Setting(
        "preview_base",
        "the checkpoint that adapters are rendered on: path, #ID, hash or name; "
        "default: the most complete one of the library",
    ),
    Setting("images", "how the terminal UI draws pictures", choices=IMAGES),
)
NAMES = tuple(setting.name for setting in SETTINGS)


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it is from: `default`, `file` or `environment`."""

    setting: Setting
    value: str | None
    origin: str

    @property
    def shown(self) -> str | None:
        """The value as it may be printed."""
        return None if self.value is None else self.setting.shown(self.value)


def setting_named(name: str) -> Setting:
    """The row of a key. Raises BadValue listing those there are."""
    for setting in SETTINGS:
        if setting.name == name:
            return setting
    raise BadValue(f"unknown setting {name!r}; there are {', '.join(NAMES)}")


def load_settings(paths: Paths, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings in force. Raises BadValue naming the file and the key that is wrong."""
    given = given_settings(paths, environment)
    told = {each.setting.name: each.value for each in given if each.origin != DEFAULT}
    return Settings(**told)  # type: ignore[arg-type]


def given_settings(paths: Paths, environment: Mapping[str, str] = os.environ) -> tuple[Given, ...]:
    """Every setting with its value and where that is from. Raises BadValue."""
    values = settings_in(_read(paths), paths)
    return tuple(_given(setting, values, environment) for setting in SETTINGS)


def settings_in(text: str, paths: Paths) -> dict[str, str]:
    """The settings in the text of a settings file. Raises BadValue naming the file and the key."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        raise BadValue(f"is not TOML: {error}", path=paths.config) from error
    for key, value in document.items():
        fault = _fault(key, value)
        if fault:
            raise BadValue(fault, path=paths.config)
    return dict(document)


def _fault(key: str, value: object) -> str | None:
    if key not in NAMES:
        return f"unknown setting {key!r}; there are {', '.join(NAMES)}"
    if not isinstance(value, str):
        return f"setting {key} must be a text"
    return setting_named(key).fault(value)


def _given(setting: Setting, values: Mapping[str, str], environment: Mapping[str, str]) -> Given:
    stated = environment.get(setting.variable) if setting.variable else None
    if stated:
        return Given(setting, stated, ENVIRONMENT)
    if setting.name in values:
        return Given(setting, values[setting.name], FILE)
    defaults = {field.name: field.default for field in fields(Settings)}
    default = defaults[setting.name]
    return Given(setting, default if isinstance(default, str) else None, DEFAULT)


def _read(paths: Paths) -> str:
    try:
        return paths.config.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BadValue(f"cannot be read: {error.strerror}", path=paths.config) from error
    except ValueError as error:
        raise BadValue(f"is not TOML: {error}", path=paths.config) from error
