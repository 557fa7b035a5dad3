"""Everything the TUI asks of the program: the one module that calls operations.

All methods block and are called in threads. Operations are imported when first used, so that the
first frame waits for none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui.query import View
from tui.sections import Section

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from registry.records import Asset, Page


@dataclass(frozen=True, slots=True)
class Conversion:
    """A planned conversion: what the job is called and what it is going to do."""

    title: str
    sections: tuple[Section, ...]
    plan: object


class Commands:
    """What can be asked about and done to the library of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def library_name(self) -> str:
        """What the library is called on the screen."""
        return ""

    def kinds(self) -> Mapping[str, int]:
        """Number of assets of each kind."""
        return self._workspace.library.kinds()

    def page(self, view: View, offset: int, limit: int) -> Page:
        """Rows of a view. Raises BadValue for a filter that means nothing."""
        return self._workspace.library.search(
            view.query, sort=view.order, limit=limit, offset=offset
        )

    def asset(self, asset_id: int) -> Asset:
        """Everything known of one asset. Raises AssetNotFound."""
        return self._workspace.library.get(asset_id)
