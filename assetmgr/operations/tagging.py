"""Tags of assets, as `+word` and `-word`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.errors import BadValue

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset


@dataclass(frozen=True, slots=True)
class TagChange:
    """Which assets get and lose which tags."""

    references: tuple[str, ...]
    add: tuple[str, ...]
    remove: tuple[str, ...]


def parse_tag_change(words: Sequence[str]) -> TagChange:
    """`ASSET... +tag -tag`, in any order. Raises BadValue when assets or tags are missing."""
    add = tuple(word[1:] for word in words if word.startswith("+"))
    remove = tuple(word[1:] for word in words if word.startswith("-"))
    references = tuple(word for word in words if not word.startswith(("+", "-")))
    if not references or not add + remove:
        raise BadValue("name assets and what to change, such as: tag '#12' +favourite -todo")
    return TagChange(references, add, remove)


def change_tags(workspace: Workspace, change: TagChange) -> tuple[Asset, ...]:
    """Change the tags and give the assets as they are now. All references are found first.

    Raises AssetNotFound, AmbiguousAsset, BadValue.
    """
    library = workspace.library
    ids = [library.find(reference).id for reference in change.references]
    library.tag(ids, change.add, change.remove)
    return tuple(library.get(asset_id) for asset_id in ids)
