"""What can be copied of an asset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tui.screens.choose import Choice

if TYPE_CHECKING:
    from registry.records import Asset

_LETTERS = {"autov2": "2", "sha256": "s", "blake3": "b", "autov1": "1", "autov3": "3", "crc32": "c"}


def copyable(asset: Asset) -> tuple[Choice, ...]:
    """What is known of it and worth to be pasted elsewhere."""
    return tuple(_found(asset))


def _found(asset: Asset) -> Iterator[Choice]:
    url = next((source.url for source in asset.sources if source.url), None)
    texts = (
        ("n", "name", asset.name),
        ("p", "prompt", asset.preview.prompt if asset.preview else None),
        ("w", "trigger words", ", ".join(asset.trigger_words)),
        ("l", "prompt tag", f"<lora:{asset.name}:1>" if asset.kind == "lora" else None),
        ("f", "path", asset.path),
        ("u", "address", url),
        *((letter, name, asset.hashes.get(name)) for name, letter in _LETTERS.items()),
    )
    for letter, name, found in texts:
        if found:
            yield Choice(letter, name, found, found)
