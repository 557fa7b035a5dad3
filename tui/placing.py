"""Where files lie and who else sees them: moves, views for other programs, sidecars.

Everything here blocks and is called in threads; operations are imported when first used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from converters.errors import AssetmgrError, BadValue
from tui.answers import folder, problem, summed, tell, title_of
from tui.bridge import Lane
from tui.forms import Answers, Field, Form, Planned, same
from tui.sections import Section, named, text
from tui.text import count, size
from tui.undo import Undos

if TYPE_CHECKING:
    from assetmgr.operations.civitai.enrich import EnrichRequest
    from assetmgr.operations.failures import Failure
    from assetmgr.operations.move import Move
    from assetmgr.operations.sidecar import SidecarRequest, SidecarWritten
    from assetmgr.operations.views.plan import ViewRequest
    from assetmgr.workspace import Workspace
    from converters.progress import Progress
    from registry.records import Asset

_YES = same("no", "yes")
_MADE = (("make", "make, or bring up to date"), ("remove", "take away what was linked"))


class Placing:
    """Forms about the places of a workspace's files."""

    def __init__(self, workspace: Workspace, undos: Undos) -> None:
        self._workspace, self._undos = workspace, undos

    # ---- moves

    def move_form(self, assets: Sequence[Asset]) -> Form:
        """Another name for one asset, another folder for any number."""
        name = (Field("name", "name", assets[0].name, empty="the name stays"),)
        to = Field("folder", "folder", "", empty="each stays in its own")
        fields = (*(name if len(assets) == 1 else ()), to)
        verb = "Rename or move" if len(assets) == 1 else "Move"
        plan = partial(self._plan_move, assets)
        return Form(title_of(verb, assets), fields, plan, "Move")

    def _plan_move(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.move import Move, MoveRequest, plan_moves

        name = answers.get("name", "").strip()
        wanted = name if name and name != assets[0].name else None
        to = folder(answers["folder"])
        if wanted is None and to is None:
            raise BadValue("nothing would move", hint="another name, or a folder")
        references = tuple(f"#{asset.id}" for asset in assets)
        found = plan_moves(self._workspace, MoveRequest(references, to, wanted))
        moves = [each for each in found if isinstance(each, Move)]
        failures = [each for each in found if not isinstance(each, Move)]
        title = title_of("Move of", assets)
        work = partial(self._move, moves) if moves else None
        return Planned(title, tuple(_move_sections(moves, failures)), work)

    def _move(self, moves: Sequence[Move], progress: Progress) -> str:
        from assetmgr.operations.move import run_moves

        done: list[Move] = []
        try:
            found, failed = tell(_kept(run_moves(self._workspace, moves, progress), done), progress)
        finally:  # also when it was stopped halfway
            if done:
                back = partial(self._move_back, tuple(one.back() for one in reversed(done)))
                self._undos.later("the move", back)
        return summed(len(found), "moved", failed)

    def _move_back(self, moves: Sequence[Move], progress: Progress) -> str:
        from assetmgr.operations.move import run_moves

        done, failed = tell(run_moves(self._workspace, moves, progress), progress)
        return summed(len(done), "moved back", failed)

    # ---- other programs' folders

    def view_form(self, query: str) -> Form:
        """The assets of a query in the folders of another program, as links."""
        from assetmgr.operations.file_links import LinkKind
        from assetmgr.operations.layouts import LAYOUTS

        programs = tuple((word, layout.title) for word, layout in LAYOUTS.items())
        ways = (("", "the first way that works"), *same(*(kind.value for kind in LinkKind)))
        fields = (
            Field("do", "links", "make", _MADE),
            Field("layout", "program", programs[0][0], programs),
            Field("directory", "its folder", "", empty="such as ~/ComfyUI"),
            Field("query", "which assets", query, empty="all; or a filter, as kind:lora"),
            Field("kind", "as", "", ways),
            Field("previews", "pictures too", "no", _YES),
        )
        return Form("Show the library to another program", fields, self._plan_view, "Link")

    def _plan_view(self, answers: Answers) -> Planned:
        from assetmgr.operations.file_links import LinkKind
        from assetmgr.operations.views.make import link_view, unlink_view
        from assetmgr.operations.views.plan import ViewRequest

        directory = folder(answers["directory"])
        if directory is None:
            raise BadValue("whose folder?", hint="the folder of the program, such as ~/ComfyUI")
        request = ViewRequest(
            answers["layout"],
            directory,
            answers["query"],
            LinkKind(answers["kind"]) if answers["kind"] else None,
            answers["previews"] == "yes",
        )
        removes = answers["do"] == "remove"
        if removes:
            view = unlink_view(request, dry_run=True)
        else:
            view = link_view(self._workspace, request, dry_run=True)
        rows = (
            ("folder", text(view.directory)),
            ("linked", text(f"{len(view.linked):,}")),
            ("removed", text(f"{len(view.removed):,}")),
            ("stay", text(f"{view.kept:,}")),
        )
        skipped = [f"{each.path}: {each.reason}" for each in view.skipped]
        sections = (Section("", rows), *named("Not touched", skipped, "$warning"))
        work = partial(self._link, request, removes) if view.linked or view.removed else None
        return Planned(f"Links in {directory.name}", sections, work)

    def _link(self, request: ViewRequest, removes: bool, progress: Progress) -> str:
        from assetmgr.operations.views.make import link_view, unlink_view

        if removes:
            view = unlink_view(request, progress)
        else:
            view = link_view(self._workspace, request, progress)
        for failure in view.failures:
            progress.message(f"{failure.path}: {failure.error}")
        said = f"{len(view.linked):,} linked, {len(view.removed):,} removed"
        return said + (f", {len(view.failures):,} failed" if view.failures else "")

    # ---- sidecars

    def sidecar_form(self, assets: Sequence[Asset]) -> Form:
        """What is known, beside the models, in the words of another program."""
        from registry.sidecars.writers import WRITERS

        fields = (
            Field("program", "for", next(iter(WRITERS)), (*same(*WRITERS), ("", "none"))),
            Field("preview", "the picture too", "no", _YES),
            Field("overwrite", "files of others", "no", (("no", "stay"), ("yes", "get ours in"))),
        )
        plan = partial(self._plan_sidecars, assets)
        return Form(title_of("Write sidecars of", assets), fields, plan, "Write")

    def _plan_sidecars(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.sidecar import SidecarRequest, SidecarWritten, write_sidecars

        programs = (answers["program"],) if answers["program"] else ()
        references = tuple(f"#{asset.id}" for asset in assets)
        preview, overwrite = answers["preview"] == "yes", answers["overwrite"] == "yes"
        request = partial(
            SidecarRequest, references, programs, preview=preview, overwrite=overwrite
        )
        found = list(write_sidecars(self._workspace, request(dry_run=True)))
        written: list[SidecarWritten] = [e for e in found if isinstance(e, SidecarWritten)]
        failures = [each for each in found if not isinstance(each, SidecarWritten)]
        sections = (*named("Written", [each.path for each in written]), *_failed(failures))
        work = partial(self._write, request(), len(found)) if written else None
        return Planned(title_of("Sidecars of", assets), sections, work)

    def _write(self, request: SidecarRequest, total: int, progress: Progress) -> str:
        from assetmgr.operations.sidecar import write_sidecars

        progress.stage("writing", total, "files")
        done, failed = tell(write_sidecars(self._workspace, request), progress, 1)
        return summed(len(done), "written", failed)

    def enrich_form(self, assets: Sequence[Asset]) -> Form:
        """What Civitai says of assets, kept beside their files."""
        fields = (
            Field("pictures", "a picture too", "yes", same("yes", "no")),
            Field("nsfw", "adult pictures", "no", _YES),
            Field("overwrite", "files of others", "no", (("no", "stay"), ("yes", "get it in"))),
        )
        plan = partial(self._plan_enrich, assets)
        return Form(title_of("Keep what Civitai says of", assets), fields, plan, "Ask")

    def _plan_enrich(self, assets: Sequence[Asset], answers: Answers) -> Planned:
        from assetmgr.operations.civitai.enrich import EnrichRequest

        request = EnrichRequest(
            tuple(f"#{asset.id}" for asset in assets),
            answers["pictures"] == "yes",
            answers["nsfw"] == "yes",
            answers["overwrite"] == "yes",
        )
        rows = (
            ("asks about", text(count(len(assets), "asset"))),
            ("", text("by their hashes; tags, notes and ratings stay as they are", "$dim")),
        )
        work = partial(self._enrich, request)
        return Planned(title_of("Keeping of", assets), (Section("", rows),), work, Lane.NETWORK)

    def _enrich(self, request: EnrichRequest, progress: Progress) -> str:
        from assetmgr.operations.civitai.enrich import Enriched, enrich

        done, failed = tell(enrich(self._workspace, request, progress), progress)
        known = [each for each in done if isinstance(each, Enriched) and each.match is not None]
        for each in known:
            for one in each.files:
                progress.message(f"{one.path}: {one.state}")
            for cause in each.problems:
                progress.message(f"{each.asset.name}: {cause}")
        return summed(len(known), f"of {len(request.references):,} known there", failed)


def _kept(found: Iterator[Move | Failure], done: list[Move]) -> Iterator[Move | Failure]:
    """The same, with what succeeded noted at once: a stopped job can be taken back too."""
    from assetmgr.operations.move import Move

    for each in found:
        if isinstance(each, Move):
            done.append(each)
        yield each


def _move_sections(moves: Sequence[Move], failures: Sequence[Failure]) -> Iterator[Section]:
    if moves:
        rows = [
            ("files", text(count(len(moves), "file"))),
            ("size", text(size(sum(move.bytes for move in moves)))),
        ]
        if any(move.copied for move in moves):
            rows.append(("", text("to another disk: copied, compared, then removed", "$warning")))
        if any(move.outside for move in moves):
            rows.append(
                ("", text("no folder of the library: scans will not look there", "$warning"))
            )
        yield Section("", tuple(rows))
        pairs = [(move.source, move.target) for move in moves]
        pairs += [pair for move in moves for pair in move.sidecars]
        yield from named("Go", [f"{Path(old).name}\n→ {new}" for old, new in pairs])
    yield from _failed(failures)


def _failed(failures: Sequence[Failure]) -> Iterator[Section]:
    if len(failures) == 1:
        (only,) = failures
        yield problem(AssetmgrError(only.error, path=only.path, hint=only.hint))
    else:
        yield from named("Stay", [f"{each.path}: {each.error}" for each in failures], "$warning")
