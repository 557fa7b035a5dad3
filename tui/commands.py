"""Everything the TUI asks of the program, with its neighbours: one for each group of operations.

All methods block and are called in threads. Operations are imported when first used, so that the
first frame waits for none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tui.answers import summed, summed_verdicts, tell, told
from tui.query import View
from tui.shown_picture import ShownPicture, largest_picture, shown_picture
from tui.text import count
from tui.undo import Undos

if TYPE_CHECKING:
    from assetmgr.config import Given, Settings
    from assetmgr.operations.doctor.check import Check
    from assetmgr.operations.duplicates.find import Group
    from assetmgr.operations.facets import Facet
    from assetmgr.operations.installed import ModelFolder
    from assetmgr.operations.preferences import Preferences
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.lineage import Lineage
    from registry.list_records import AssetRow, Beginning, Page
    from registry.records import Asset
    from tui.annotations import Annotations
    from tui.clearing import Clearing
    from tui.downloads import Downloads
    from tui.forms import Form
    from tui.inside import Inside
    from tui.placing import Placing
    from tui.remote import Remote
    from tui.rendering import Rendering


LOGOUT = "-"
"""Typed in the place of a token: forget it."""


class Commands:
    """What can be asked about and done to the library of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.undos = Undos()

    @cached_property
    def rendering(self) -> Rendering:
        """Previews."""
        from tui.rendering import Rendering

        return Rendering(self._workspace)

    @cached_property
    def annotations(self) -> Annotations:
        """What is said of assets."""
        from tui.annotations import Annotations

        return Annotations(self._workspace, self.undos)

    @cached_property
    def clearing(self) -> Clearing:
        """Room on the disk."""
        from tui.clearing import Clearing

        return Clearing(self._workspace, self.undos)

    @cached_property
    def placing(self) -> Placing:
        """Where files lie, and who else sees them."""
        from tui.placing import Placing

        return Placing(self._workspace, self.undos)

    @cached_property
    def inside(self) -> Inside:
        """What is inside of files."""
        from tui.inside import Inside

        return Inside(self._workspace)

    @cached_property
    def remote(self) -> Remote:
        """Civitai and the Hub."""
        from tui.remote import Remote

        return Remote(self._workspace)

    @cached_property
    def downloads(self) -> Downloads:
        """The queue of downloads."""
        from tui.downloads import Downloads

        return Downloads(self._workspace)

    def close(self) -> None:
        """End the sampler's process."""
        if "rendering" in self.__dict__:  # which is made when it is first used
            self.rendering.close()

    # ---- looking

    @property
    def library_name(self) -> str:
        """What the library is called on the screen: where it lies."""
        return str(self._workspace.paths.home)

    def note_fault(self, error: Exception) -> None:
        """Keep a fault of the program in its log."""
        from assetmgr.fault_log import note_fault

        note_fault(error, self._workspace.paths.faults)

    def kinds(self) -> Mapping[str, int]:
        """Number of assets of each kind."""
        return self._workspace.library.kinds()

    def without_opening(self, view: View, offset: int, limit: int) -> Page | None:
        """As `page`, of a library that is not open yet; None where it has to be opened for that."""
        return self._workspace.first_page(view.query, view.order, limit, offset)

    def beginning(self, view: View, limit: int, progress: Progress) -> Beginning:
        """The first rows of a view. Raises BadValue for a filter that means nothing."""
        library = self._workspace.library
        return library.beginning(view.query, sort=view.order, limit=limit, progress=progress)

    def at_once(self, view: View, limit: int) -> Beginning | None:
        """As `beginning`, without a thread; None where that is to be waited for."""
        if not self._workspace.is_open:
            return None
        return self._workspace.library.at_once.beginning(view.query, view.order, limit)

    def number(self, view: View, progress: Progress) -> int:
        """How many rows a view has. Raises BadValue."""
        return self._workspace.library.number(view.query, progress)

    def page(self, view: View, offset: int, limit: int) -> Page:
        """Rows of a view, and how many it has. Raises BadValue for a filter that means nothing."""
        return self._workspace.library.search(
            view.query, sort=view.order, limit=limit, offset=offset
        )

    def asset(self, asset_id: int) -> Asset:
        """Everything known of one asset. Raises AssetNotFound."""
        return self._workspace.library.get(asset_id)

    def assets(self, ids: Sequence[int]) -> tuple[Asset, ...]:
        """Everything known of some assets. Raises AssetNotFound."""
        return tuple(map(self.asset, ids))

    def picture(self, row: AssetRow) -> ShownPicture | None:
        """An asset's picture: that of its preview, else one beside the model."""
        if row.thumbnail and Path(row.thumbnail).is_file():
            return ShownPicture(row.thumbnail, is_render=True)
        return shown_picture(self.asset(row.id))

    def largest_picture(self, asset_id: int) -> ShownPicture | None:
        """An asset's picture with the most to see. Raises AssetNotFound."""
        return largest_picture(self.asset(asset_id))

    def lineage(self, asset: Asset) -> Lineage:
        """What an asset was made from, and what was made from it."""
        return self._workspace.library.lineage(asset.id)

    def facets(self, view: View, progress: Progress) -> tuple[Facet, ...]:
        """How many of a view's assets have which base, tag and so on. Raises BadValue."""
        from assetmgr.operations.facets import facets

        return facets(self._workspace, view.query, progress)

    def open_folder(self, path: str) -> None:
        """Show a file's folder in the system's file manager, as far as there is one."""
        from assetmgr.operations.show_folder import show_folder

        show_folder(path)

    # ---- jobs

    def rescan(self, progress: Progress) -> str:
        """Look through all folders of the library."""
        return self.scan((), progress)

    def scan(self, folders: Sequence[str], progress: Progress) -> str:
        """Add or update folders; none means all that the library knows."""
        from assetmgr.operations.scan import scan

        report = scan(self._workspace, folders, progress)
        for error in report.errors:
            progress.message(f"{error.path}: {error.error}")
        words = ("added", "updated", "moved", "restored", "missing")
        found = [f"{getattr(report, word):,} {word}" for word in words if getattr(report, word)]
        if len(report.errors) == 1:
            found.append(f"1 failed: {report.errors[0].path}: {report.errors[0].error}")
        elif report.errors:
            found.append(f"{len(report.errors):,} failed (J tells which)")
        return ", ".join(found) or f"nothing new in {count(len(report.roots), 'folder')}"

    def preview(self, ids: Sequence[int], progress: Progress) -> str:
        """Render and judge; the sampler stays warm for the next one."""
        return self.rendering.preview(ids, progress)

    def verify(self, ids: Sequence[int], progress: Progress, *, render: bool = False) -> str:
        """Read files again: bit rot, missing tensors, broken numbers; and, if wanted, a render."""
        from assetmgr.operations.failures import Failure
        from assetmgr.operations.verify import verify

        verdicts: list[str] = []
        references = tuple(f"#{asset_id}" for asset_id in ids)
        for result in verify(self._workspace, references, progress, render=render):
            if isinstance(result, Failure):
                told(result, progress, alone=len(ids) == 1)
                verdicts.append("failed")
                continue
            found = [f"{each.name}: {each.detail}" for each in result.checks if not each.ok]
            if result.render == "failed":
                found.append("render: failed")
            progress.message(f"{result.path}: {'; '.join(found) or 'ok'}")
            verdicts.append(
                "ok" if result.is_ok else "; ".join(found) if len(ids) == 1 else "failed"
            )
        return summed_verdicts(verdicts)

    def duplicates(self, by: str, progress: Progress) -> tuple[Group, ...]:
        """The groups of equal files. What cannot be read is told to `progress`."""
        from assetmgr.operations.duplicates.find import duplicates

        groups, failures = duplicates(self._workspace, by, progress)
        for failure in failures:
            progress.message(f"{failure.path}: {failure.error}")
        return groups

    def lookup(self, ids: Sequence[int], progress: Progress) -> str:
        """What Civitai calls files, by their hashes."""
        from assetmgr.operations.civitai.lookup import Lookup, lookup

        known = []
        references = [f"#{asset_id}" for asset_id in ids]
        found, failed = tell(lookup(self._workspace, references, progress), progress)
        for each in found:
            assert isinstance(each, Lookup)
            names = [f"{m.version.model_name} · {m.version.name}" for m in each.matches]
            known += names[:1]
            progress.message(f"{each.subject.name}: {', '.join(names) or 'unknown there'}")
        if len(found) == 1:
            return known[0] if known else "unknown there"
        return summed(len(known), f"of {len(ids):,} known there", failed)

    def diagnose(self, progress: Progress) -> tuple[Check, ...]:
        """Whether all that the program needs is in order."""
        from assetmgr.operations.doctor.examine import diagnose

        return diagnose(progress=progress)

    # ---- forms

    def form(self, verb: str, ids: Sequence[int]) -> Form:
        """What has to be answered before something is done to assets.

        `verb` is a word of `_makers`. Raises AssetmgrError when it cannot be done.
        """
        return self._makers[verb](self.assets(ids))

    @cached_property
    def _makers(self) -> Mapping[str, Callable[[Sequence[Asset]], Form]]:
        from tui.explaining import Explaining
        from tui.making import Making
        from tui.merging import Merging
        from tui.sheets import Sheets

        making = Making(self._workspace)
        return {
            "convert": making.convert_form,
            "extract": making.extract_form,
            "resize": making.resize_form,
            "merge": Merging(self._workspace).form,
            "preview": self.rendering.form,
            "sheet": Sheets(self._workspace, self.rendering).form,
            "explain": Explaining(self._workspace).form,
            "trash": self.clearing.trash_form,
            "restore": self.clearing.restore_form,
            "move": self.placing.move_form,
            "sidecar": self.placing.sidecar_form,
            "enrich": self.placing.enrich_form,
        }

    def library_form(self, verb: str, query: str) -> Form:
        """What has to be answered before something is done with the library: a word of the keymap.

        `query` is what the list shows. Raises AssetmgrError when it cannot be done.
        """
        from tui.exchange import Exchange
        from tui.roots import Roots

        if verb == "link":
            return self.placing.view_form(query)
        if verb == "forget":
            return Roots(self._workspace).forget_form()
        exchange = Exchange(self._workspace)
        return exchange.export_form() if verb == "export" else exchange.import_form()

    # ---- what is remembered

    def preferences(self) -> Preferences:
        """What the screens remember."""
        from assetmgr.operations.preferences import load_preferences

        return load_preferences(self._workspace)

    def keep(self, preferences: Preferences) -> None:
        """Remember this."""
        from assetmgr.operations.preferences import keep_preferences

        keep_preferences(self._workspace, preferences)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._workspace.settings

    def change_setting(self, name: str, value: str | None) -> None:
        """Write a setting down. Raises BadValue, WriteProblem."""
        from assetmgr.operations.settings import change_setting

        change_setting(self._workspace, name, value)

    @property
    def given_settings(self) -> tuple[Given, ...]:
        """Every setting with its value and where that is from. Raises BadValue."""
        from assetmgr.config import given_settings

        return given_settings(self._workspace.paths)

    def login(self, service: str, secret: str) -> str:
        """Keep a token of a service; where it lies then. Raises BadValue, NotAvailable."""
        from assetmgr.operations.login import login, logout

        if secret == LOGOUT:
            address, was = logout(service)
            return f"token for {address} forgotten" if was else f"no token for {address} was kept"
        kept = login(service, secret)
        who = f" of {kept.user}" if kept.user else "" if kept.checked else ", not checked: offline"
        return f"token{who} kept in {kept.place}"

    def installed(self) -> tuple[ModelFolder, ...]:
        """Folders of models that other programs have on this machine."""
        from assetmgr.operations.installed import find_model_folders

        return find_model_folders()
