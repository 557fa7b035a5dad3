"""What a user says of assets: tags, ratings, notes; and that they are to be forgotten.

Each change can be taken back: what was said before is kept with its undo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from tui.text import count
from tui.undo import Undos

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset


class Annotations:
    """Changes of what is said of the assets of a workspace."""

    def __init__(self, workspace: Workspace, undos: Undos) -> None:
        self._workspace, self._undos = workspace, undos

    def change_tags(
        self, ids: Sequence[int], add: Sequence[str], remove: Sequence[str] = ()
    ) -> None:
        """Add and remove tags."""
        from assetmgr.operations.tagging import TagChange, change_tags

        before = {asset.id: asset.tags for asset in map(self._workspace.library.get, ids)}
        references = tuple(f"#{asset_id}" for asset_id in ids)
        change_tags(self._workspace, TagChange(references, tuple(add), tuple(remove)))
        self._undos.now("the tags", partial(self._set_tags, before))

    def retag(self, asset_id: int, tags: tuple[str, ...]) -> None:
        """Let an asset have exactly these tags."""
        before = {asset_id: self._workspace.library.get(asset_id).tags}
        self._undos.now("the tags", partial(self._set_tags, before))
        self._set_tags({asset_id: tags})

    def _set_tags(self, tags: Mapping[int, Sequence[str]]) -> None:
        for asset_id, wanted in tags.items():
            words = [tag.lower() for tag in wanted]  # as the library keeps them
            had = self._workspace.library.get(asset_id).tags
            add = [tag for tag in words if tag not in had]
            self._workspace.library.tag([asset_id], add, [tag for tag in had if tag not in words])

    def rate(self, ids: Sequence[int], rating: int) -> None:
        """Rate assets from 0 to 5."""
        from assetmgr.operations.annotate import set_rating

        before = {asset.id: asset.rating for asset in map(self._workspace.library.get, ids)}
        for asset_id in ids:
            set_rating(self._workspace, f"#{asset_id}", rating)
        self._undos.now("the rating", partial(self._set_ratings, before))

    def _set_ratings(self, ratings: Mapping[int, int | None]) -> None:
        for asset_id, rating in ratings.items():
            self._workspace.library.rate(asset_id, rating)

    def note(self, ids: Sequence[int], text: str) -> None:
        """Keep a note on assets, in place of an old one; an empty text removes it."""
        from assetmgr.operations.annotate import set_note

        before = {asset.id: asset.note for asset in map(self._workspace.library.get, ids)}
        for asset_id in ids:
            set_note(self._workspace, f"#{asset_id}", text)
        self._undos.now("the note", partial(self._set_notes, before))

    def _set_notes(self, notes: Mapping[int, str | None]) -> None:
        for asset_id, note in notes.items():
            self._workspace.library.note(asset_id, note)

    def forget(self, ids: Sequence[int]) -> None:
        """Take assets out of the library; their files stay."""
        from assetmgr.operations.annotate import forget_assets

        gone = forget_assets(self._workspace, [f"#{asset_id}" for asset_id in ids])
        self._undos.later(count(len(gone), "forgotten asset"), partial(self._remember, gone))

    def _remember(self, assets: Sequence[Asset], progress: Progress) -> str:
        from assetmgr.operations.remember import remember_asset

        progress.stage("reading", len(assets), "assets")
        for asset in assets:
            remember_asset(self._workspace, asset)
            progress.advance()
        return f"{count(len(assets), 'asset')} remembered"
