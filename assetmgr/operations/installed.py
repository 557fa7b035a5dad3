"""Folders of models that other programs have on this machine, in the places they usually take.

Sources of the places: the installation guides of ComfyUI, AUTOMATIC1111 and its forks, SD.Next,
Fooocus, InvokeAI and StabilityMatrix, and the Hugging Face Hub's documentation of its cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.suffixes import MODEL_SUFFIXES

MOST_FILES = 1000
"""Counting stops here: it is for a first impression."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder of a program; `files` model files were seen in it, at most `MOST_FILES`."""

    program: str
    path: Path
    files: int


_PLACES = (
    ("ComfyUI", ("ComfyUI/models", "comfyui/models", "Documents/ComfyUI/models")),
    ("A1111", ("stable-diffusion-webui/models", "stable-diffusion-webui/embeddings")),
    ("Forge", ("stable-diffusion-webui-forge/models", "stable-diffusion-webui-reForge/models")),
    ("SD.Next", ("automatic/models", "sdnext/models")),
    ("Fooocus", ("Fooocus/models",)),
    ("InvokeAI", ("invokeai/models", "InvokeAI/models")),
    ("StabilityMatrix", ("StabilityMatrix/Data/Models", ".local/share/StabilityMatrix/Models")),
    ("SwarmUI", ("SwarmUI/Models", "StableSwarmUI/Models")),
    ("Draw Things", ("Library/Containers/com.liuliu.draw-things/Data/Documents/Models",)),
    ("models", ("models", "Models", "sd-models", "stable-diffusion/models")),
)
"""Program -> its folders, below one of the places where people install."""

_BELOW = ("", "ai", "AI", "apps", "git", "src", "projects", "Documents", "Downloads", "Desktop")


def find_model_folders(
    home: Path | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[ModelFolder, ...]:
    """The folders that are there and hold model files, each once. Looks; changes nothing."""
    user = Path.home() if home is None else home
    found: dict[Path, ModelFolder] = {}
    for program, path in _candidates(user, environment):
        real = Path(os.path.realpath(path))
        if real in found or any(known in real.parents for known in found):
            continue
        files = _count(real)
        if files:
            found[real] = ModelFolder(program, real, files)
    return tuple(found.values())


def _candidates(home: Path, environment: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    for program, places in _PLACES:
        for below in _BELOW:
            yield from ((program, home / below / place) for place in places)
    hub = environment.get("HF_HOME")
    cache = Path(hub) if hub else home / ".cache" / "huggingface"
    yield "Hugging Face Hub", cache / "hub"


def _count(folder: Path) -> int:
    """Model files in a folder, hidden folders left out; folders closed to us count nothing."""
    count = 0
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(Path(name).suffix.lower() in MODEL_SUFFIXES for name in names)
        if count >= MOST_FILES:
            return MOST_FILES
    return count
