"""What users write on assets: notes and ratings; and forgetting assets with all of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from converters.errors import AssetNotFound

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset


def set_note(workspace: Workspace, reference: str, text: str) -> Asset:
    """Keep a note on an asset, in place of the old one; an empty text removes it.

    Raises AssetNotFound, AmbiguousAsset.
    """
    asset = workspace.library.find(reference)
    workspace.library.note(asset.id, text)
    return workspace.library.get(asset.id)


def set_rating(workspace: Workspace, reference: str, rating: int) -> Asset:
    """Rate an asset from 0 to 5. Raises AssetNotFound, AmbiguousAsset, BadValue."""
    asset = workspace.library.find(reference)
    workspace.library.rate(asset.id, rating)
    return workspace.library.get(asset.id)


def forget_assets(workspace: Workspace, references: Sequence[str]) -> tuple[Asset, ...]:
    """Remove assets from the library and give them as they were. All references are found first.

    Raises AssetNotFound, AmbiguousAsset.
    """
    assets = [workspace.library.find(reference) for reference in references]
    unique = {asset.id: asset for asset in assets}
    workspace.library.forget(unique)
    return tuple(unique.values())


def forget(
    workspace: Workspace, references: Sequence[str]
) -> tuple[tuple[Asset, ...], tuple[str, ...]]:
    """As `forget_assets`; and the paths of folders, which need not be there any more.

    A folder that is a model itself is meant as that. Nothing is forgotten if one is not found.
    """
    from registry.scanning.places import real_folder

    roots = frozenset(workspace.library.roots())
    named = filter(None, references)  # nothing is no folder, though it resolves to the current one
    folders = {each: path for each in named if (path := real_folder(each)) in roots}
    folders = {each: path for each, path in folders.items() if not _is_asset(workspace, path)}
    assets = forget_assets(workspace, [each for each in references if each not in folders])
    for path in frozenset(folders.values()):
        workspace.library.forget_root(path)
    return assets, tuple(sorted(frozenset(folders.values())))


def _is_asset(workspace: Workspace, path: str) -> bool:
    try:
        workspace.library.find(path)
    except AssetNotFound:
        return False
    return True
