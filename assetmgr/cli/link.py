"""`assetmgr link`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, refuse_options
from assetmgr.operations.file_links import LinkKind
from assetmgr.operations.layouts import LAYOUTS
from assetmgr.operations.views.make import View, ViewRequest, link_view, unlink_view
from assetmgr.operations.views.manifest import Entry
from assetmgr.text import plain
from assetmgr.workspace import Workspace
from converters.errors import BadValue


@click.command(
    epilog="Example: assetmgr link --layout comfyui ~/ComfyUI kind:lora base:sdxl",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.option("--layout", type=click.Choice(list(LAYOUTS)), help="Whose folders these are.")
@click.option(
    "--as",
    "kind",
    type=click.Choice([kind.value for kind in LinkKind]),
    help="How; by default the first that works.",
)
@click.option("--previews", is_flag=True, help="Verified pictures beside them, too.")
@click.option("--remove", is_flag=True, help="Take away all that was linked.")
@click.option("--dry-run", is_flag=True, help="Say what would be done.")
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("query", nargs=-1, type=click.UNPROCESSED, shell_complete=completion.query)
@common_options
@click.pass_obj
def link(
    session: Session,
    layout: str | None,
    kind: str | None,
    previews: bool,
    remove: bool,
    dry_run: bool,
    directory: Path,
    query: tuple[str, ...],
) -> int:
    """Show the library's files in the folders of another program; all, or those of a query.

    DIR is the folder of the program. Calling it again brings the links up to date: new assets come,
    others go, broken links are mended. What is not ours, or was changed since, is never touched.
    """
    _check(layout, query, remove=remove)
    how = None if kind is None else LinkKind(kind)
    request = ViewRequest(layout or "", directory, " ".join(query), how, previews)
    with Workspace.open() as workspace, session.progress() as progress:
        if remove:
            view = unlink_view(request, progress, dry_run=dry_run)
        else:
            view = link_view(workspace, request, progress, dry_run=dry_run)
    for failure in view.failures:
        session.fail(failure)
    if session.as_json:
        session.output.document({**view.to_json(), "errors": session.errors()})
    else:
        _print(session, view)
    return session.status


def _check(layout: str | None, query: tuple[str, ...], *, remove: bool) -> None:
    refuse_options(query)
    if remove and query:
        raise BadValue("--remove takes all links away and has no query")
    if layout is None and not remove:
        raise BadValue(f"name a --layout: {', '.join(LAYOUTS)}")


def _print(session: Session, view: View) -> None:
    for done in view.linked:
        target = done.target if isinstance(done, Entry) else str(done.source)
        way = done.kind.value if done.kind else "link"
        session.output.line(f"#{done.asset}  {way:<8}  {plain(done.path)} -> {plain(target)}")
    for entry in view.removed:
        session.output.line(f"#{entry.asset}  removed   {plain(entry.path)}")
    for item in view.skipped:
        session.output.line(f"#{item.asset}  skipped   {plain(item.path)}: {plain(item.reason)}")
    counts = f"{len(view.linked)} linked, {len(view.removed)} removed, {view.kept} kept"
    session.output.line(f"{counts}, {len(view.skipped)} skipped")
