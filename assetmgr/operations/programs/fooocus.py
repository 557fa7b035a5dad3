"""Fooocus: `config.txt` is JSON and names a folder, or several, for every kind.

Keys: `lllyasviel/Fooocus` `modules/config.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assetmgr.operations.programs.configuration import Configuration, has

_KEYS = (
    "path_checkpoints",
    "path_loras",
    "path_embeddings",
    "path_vae",
    "path_vae_approx",
    "path_upscale_models",
    "path_inpaint",
    "path_controlnet",
    "path_clip_vision",
)


def title(_: Path) -> str:
    """Its name."""
    return "Fooocus"


def is_root(root: Path) -> bool:
    """Whether the program lies here."""
    return has(root, "fooocus_version.py")


def folders(configuration: Configuration) -> Iterator[Path]:
    """The folders in its settings."""
    settings = configuration.json("config.txt")
    for key in _KEYS:
        yield from configuration.folders(settings.get(key))
