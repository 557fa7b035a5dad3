"""The cache of the Hugging Face Hub: `models--ORG--NAME`, each with snapshots of links to blobs.

Form: `huggingface/huggingface_hub` `file_download.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from assetmgr.operations.programs.configuration import Configuration, has


def title(_: Path) -> str:
    """Its name."""
    return "Hugging Face cache"


def is_root(root: Path) -> bool:
    """Whether repositories lie here as the library keeps them."""
    try:
        names = os.listdir(root)  # noqa: PTH208
    except (OSError, ValueError):  # closed to us, no folder, no name at all
        return False
    repositories = (name for name in names if name.startswith("models--"))
    return any(has(root, f"{name}/snapshots") for name in repositories)


def folders(_: Configuration) -> Iterator[Path]:
    """It has no settings."""
    return iter(())
