"""The folders of the library: one that is looked through no more.

A root may be a pipeline's folder: what is meant here is the folder, not the model. Everything here
blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from converters.errors import BadValue
from tui.forms import Answers, Field, Form, Planned, same
from tui.sections import Section, text
from tui.text import count

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from converters.progress import Progress


class Roots:
    """Forms about the folders of a workspace's library."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def forget_form(self) -> Form:
        """One of the folders, which need not be there any more. Raises BadValue without any."""
        roots = self._workspace.library.roots()
        if not roots:
            raise BadValue("no folder is in the library", hint="R scans one")
        fields = (Field("folder", "folder", roots[0], same(*roots)),)
        return Form("Take a folder out of the library", fields, self._plan_forgetting, "Take out")

    def _plan_forgetting(self, answers: Answers) -> Planned:
        from assetmgr.operations.facets import term_of

        folder = answers["folder"]
        held = self._workspace.library.number(term_of("path", folder))
        stays = "files stay on the disk; what has a tag, a note or a rating stays as missing"
        rows = (("holds", text(count(held, "asset"))), ("", text(stays, "$dim")))
        work = partial(self._forget, folder)
        return Planned(f"Forgetting of {folder}", (Section("", rows),), work)

    def _forget(self, folder: str, progress: Progress) -> str:
        self._workspace.library.forget_root(folder)
        return f"{folder} forgotten"
