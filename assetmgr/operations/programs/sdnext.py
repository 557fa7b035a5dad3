"""SD.Next: `config.json` may name a folder for every kind.

Keys: `vladmandic/sdnext` `modules/ui_definitions.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from assetmgr.operations.programs.configuration import Configuration, has

_KEYS = (
    "models_dir",
    "ckpt_dir",
    "diffusers_dir",
    "hfcache_dir",
    "vae_dir",
    "unet_dir",
    "te_dir",
    "lora_dir",
    "embeddings_dir",
    "hypernetwork_dir",
    "control_dir",
    "yolo_dir",
    "esrgan_models_path",
    "realesrgan_models_path",
    "swinir_models_path",
)


def title(_: Path) -> str:
    """Its name."""
    return "SD.Next"


def is_root(root: Path) -> bool:
    """Whether the program lies here: of its kin it alone has an installer."""
    return has(root, "webui.py", "installer.py", "modules")


def folders(configuration: Configuration) -> Iterator[Path]:
    """The folders in its settings."""
    settings = configuration.json("config.json")
    for key in _KEYS:
        yield from configuration.folder(settings.get(key))
