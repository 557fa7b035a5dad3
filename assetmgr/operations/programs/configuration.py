"""Other programs' configuration files, read with limits; what cannot be used is a warning."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from converters.bytesource import FileBytes
from converters.errors import FileMissing, FileProblem

MAX_BYTES = 4 << 20
MAX_YAML_BYTES = 256 << 10
"""Its parser is slow; real ones have a few thousand bytes."""


class Configuration:
    """The files in a program's folder, and what is wrong with them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Something that a person should know of; each text once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def text(self, name: str, limit: int = MAX_BYTES) -> str | None:
        """The text of a file; None where there is none, or none that can be read."""
        path = self.root / name
        try:
            source = FileBytes(path)
        except FileMissing:
            return None
        except FileProblem as error:
            self.warn(str(error))
            return None
        try:
            if source.size > limit:
                self.warn(f"{path}: is longer than {limit >> 10} kB and is not read")
                return None
            return source.pread(0, source.size).decode("utf-8-sig", "replace")
        except FileProblem as error:
            self.warn(str(error))
            return None
        finally:
            source.close()

    def json(self, name: str) -> Mapping[str, object]:
        """The object in a JSON file; empty where there is none."""
        text = self.text(name)
        if text is None:
            return {}
        try:
            return self._mapping(name, json.loads(text))
        except (ValueError, RecursionError):
            self.warn(f"{self.root / name}: is not JSON")
            return {}

    def toml(self, name: str) -> Mapping[str, object]:
        """The table in a TOML file; empty where there is none."""
        text = self.text(name)
        if text is None:
            return {}
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError):
            self.warn(f"{self.root / name}: is not TOML")
            return {}

    def yaml(self, name: str) -> Mapping[str, object]:
        """The map in a YAML file; empty where there is none. Tags make no objects."""
        text = self.text(name, MAX_YAML_BYTES)
        if text is None:
            return {}
        import yaml

        try:
            parsed = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError):
            self.warn(f"{self.root / name}: is not YAML")
            return {}
        return {} if parsed is None else self._mapping(name, parsed)

    def folder(self, named: object, base: Path | None = None) -> Iterator[Path]:
        """The folder a value names, relative to `base` or the program; nothing for an empty one.

        Environment variables and `~` mean what they mean in a shell.
        """
        if named is None or named == "":
            return
        if not isinstance(named, str) or "\0" in named:
            self.warn(f"{self.root}: {str(named)[:80]!r} is no folder's name")
            return
        text = os.path.expandvars(named.strip())
        try:
            expanded = Path(text).expanduser()
        except RuntimeError:  # a user who has no home
            expanded = Path(text)
        yield Path(self.root if base is None else base, expanded)

    def folders(self, named: object, base: Path | None = None) -> Iterator[Path]:
        """The folder, or the folders of a list."""
        for each in named if isinstance(named, list) else [named]:
            yield from self.folder(each, base)

    def _mapping(self, name: str, parsed: object) -> Mapping[str, object]:
        if isinstance(parsed, dict):
            return {key: value for key, value in parsed.items() if isinstance(key, str)}
        self.warn(f"{self.root / name}: holds no settings by name")
        return {}


def has(root: Path, *names: str) -> bool:
    """Whether all of these are in a folder; never raises."""
    return all(os.path.exists(root / name) for name in names)  # noqa: PTH110
