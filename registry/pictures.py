"""The names of the pictures that a render leaves behind."""

from __future__ import annotations

from pathlib import Path

THUMBNAIL_PNG = ".thumbnail.png"
"""How the name of a thumbnail in PNG ends; previews of older programs have none."""


def thumbnail_png(thumbnail: str) -> str:
    """The thumbnail as PNG, beside the WebP; `<stem>.png` itself is the whole picture.

    >>> thumbnail_png("fox.webp")
    'fox.thumbnail.png'
    """
    return str(Path(thumbnail).with_suffix(THUMBNAIL_PNG))


def picture_files(path: str | None, thumbnail: str | None) -> tuple[str, ...]:
    """All files of a preview: the picture and its thumbnail in both forms, where there are any."""
    whole = () if path is None else (path,)
    return whole if thumbnail is None else (*whole, thumbnail, thumbnail_png(thumbnail))
