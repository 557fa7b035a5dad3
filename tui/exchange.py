"""What users typed, to a file and from one.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui.answers import file
from tui.forms import Answers, Field, Form, Planned
from tui.sections import Section, text
from tui.text import count

if TYPE_CHECKING:
    from assetmgr.workspace import Workspace
    from converters.progress import Progress

_NAME = "assetmgr-notes.json"


class Exchange:
    """Forms for tags, notes and ratings on their way between libraries."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def export_form(self) -> Form:
        """All that was typed, into a file."""
        fields = (Field("output", "file", str(Path.home() / _NAME)),)
        return Form("Export tags, notes and ratings", fields, self._plan_export, "Write")

    def _plan_export(self, answers: Answers) -> Planned:
        from assetmgr.operations.userdata import export_userdata
        from converters.writers.atomic import refuse_existing

        output = file(answers["output"])
        refuse_existing(output, overwrite=False)
        document = export_userdata(self._workspace)
        assets = document["assets"]
        typed = len(assets) if isinstance(assets, list) else 0
        rows = (("target", text(output)), ("holds", text(count(typed, "asset"))))
        return Planned("Export", (Section("", rows),), partial(self._write, document, output))

    def _write(self, document: dict[str, object], output: Path, progress: Progress) -> str:
        from converters.writers.atomic import write_whole

        told = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_whole(output, told.encode("utf-8", "surrogateescape"))
        return f"written: {output}"

    def import_form(self) -> Form:
        """What another library exported, onto the assets of the same content."""
        keep = (("no", "stay"), ("yes", "are replaced"))
        fields = (
            Field("file", "file", "", empty=f"such as {Path.home() / _NAME}"),
            Field("overwrite", "notes here", "no", keep),
        )
        return Form("Import tags, notes and ratings", fields, self._plan_import, "Import")

    def _plan_import(self, answers: Answers) -> Planned:
        from converters.bytesource import FileBytes

        source = file(answers["file"])
        FileBytes(source).close()  # says what is wrong with it
        replaced = answers["overwrite"] == "yes"
        facts = (
            "",
            text(
                "tags are added; "
                + (
                    "notes and ratings are replaced"
                    if replaced
                    else "notes and ratings only where there are none"
                ),
                "$dim",
            ),
        )
        work = partial(self._read, source, replaced)
        return Planned("Import", (Section("", (("from", text(source)), facts)),), work)

    def _read(self, source: Path, replaced: bool, progress: Progress) -> str:
        from assetmgr.operations.userdata import import_userdata

        done = import_userdata(self._workspace, source, overwrite=replaced)
        for name in done.unknown:
            progress.message(f"not in this library: {name}")
        same = f"{done.unchanged:,} as they were"
        return f"{done.changed:,} changed, {same}, {len(done.unknown):,} unknown"
