"""Which picture stands for an asset: its own render, else one that lies beside the model.

They are kept apart: a render lies in the previews' folder and comes with a verdict, while what lies
beside a model was put there by its owner or by a site, and says nothing of whether the model works.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the first rows need nothing of what reads assets whole
    from registry.records import Asset

BESIDE = "not a verification"
"""Said on a tile whose picture is no render."""
WHOSE = f"beside the model,\n{BESIDE}"
"""Said under such a picture; as wide as the narrowest frame."""


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """A picture's file, and whether it is a render of the asset."""

    path: str
    is_render: bool


def shown_picture(asset: Asset) -> ShownPicture | None:
    """The first picture that is there: thumbnail, render, then those beside the model.

    Asks the disk: call it in a thread.
    """
    found = _pictures(asset, is_small=True)
    return next((one for one in found if Path(one.path).is_file()), None)


def largest_picture(asset: Asset) -> ShownPicture | None:
    """The picture with the most to see: the render itself before its thumbnail. Asks the disk."""
    found = _pictures(asset, is_small=False)
    return next((one for one in found if Path(one.path).is_file()), None)


def _pictures(asset: Asset, *, is_small: bool) -> Iterator[ShownPicture]:
    if asset.preview is not None:
        renders = (asset.preview.thumbnail, asset.preview.path)
        for path in renders if is_small else reversed(renders):
            if path:
                yield ShownPicture(path, is_render=True)
    for sidecar in asset.sidecars:
        if sidecar.preview:
            yield ShownPicture(sidecar.preview, is_render=False)
