"""ComfyUI: `extra_model_paths.yaml` names folders of models, by sections with a base folder.

Form: `Comfy-Org/ComfyUI` `extra_model_paths.yaml.example` and `utils/extra_config.py`. The desktop
program calls the file `extra_models_config.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assetmgr.operations.programs.configuration import Configuration, has

_FILES = ("extra_model_paths.yaml", "extra_models_config.yaml")
_NO_MODELS = frozenset({"base_path", "is_default", "custom_nodes", "datasets"})


def title(_: Path) -> str:
    """Its name."""
    return "ComfyUI"


def is_root(root: Path) -> bool:
    """Whether the program, or the data of its desktop form, lies here."""
    desktop = has(root, "custom_nodes", "models")
    return has(root, "comfy", "folder_paths.py") or desktop or any(has(root, n) for n in _FILES)


def folders(configuration: Configuration) -> Iterator[Path]:
    """The folders in every section of its files."""
    for name in _FILES:
        for section, entries in configuration.yaml(name).items():
            if isinstance(entries, dict):
                yield from _in_section(configuration, entries)
            elif entries is not None:
                configuration.warn(f"{configuration.root / name}: {section[:80]!r} is no section")


def _in_section(configuration: Configuration, entries: dict[object, object]) -> Iterator[Path]:
    """A value has one folder in each line, relative to the base or to the file's own folder."""
    base = next(configuration.folder(entries.get("base_path")), configuration.root)
    for key, value in entries.items():
        if key in _NO_MODELS:
            continue
        lines = value.splitlines() if isinstance(value, str) else [value]
        for line in lines:
            yield from configuration.folder(line, base)
