"""`assetmgr duplicates`."""

from __future__ import annotations

from dataclasses import asdict

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.operations.duplicates.find import BY, Group
from assetmgr.operations.duplicates.find import duplicates as find_duplicates
from assetmgr.operations.duplicates.links import Restored, link_duplicates, undo_links
from assetmgr.operations.duplicates.pairs import Pair, Way, plan_links
from assetmgr.operations.failures import Failure
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.errors import BadValue


@click.command(epilog="Example: assetmgr duplicates --by weights")
@click.option("--by", type=click.Choice(BY), default="file", help="The same bytes, or tensors.")
@click.option("--link", is_flag=True, help="Replace copies by links to one of them.")
@click.option(
    "--as",
    "way",
    type=click.Choice([way.value for way in Way]),
    default=Way.HARDLINK.value,
    show_default=True,
    help="How.",
)
@click.option("--undo", is_flag=True, help="Give linked files their own bytes back.")
@click.option("--dry-run", is_flag=True, help="Say what --link or --undo would do.")
@common_options
@click.pass_obj
def duplicates(session: Session, by: str, link: bool, way: str, undo: bool, dry_run: bool) -> int:
    """List files that the library has more than once, and what one of each would free.

    By weights, files in different containers or with other metadata count as equal when their
    tensors are. Only equal files can be linked; each is compared byte for byte right before.
    """
    if link and (undo or by != "file"):
        raise BadValue("--link goes with --by file, and not with --undo")
    if dry_run and not (link or undo):
        raise BadValue("--dry-run goes with --link or --undo")
    if link:
        return _link(session, Way(way), dry_run=dry_run)
    return _undo(session, dry_run=dry_run) if undo else _list(session, by)


def _link(session: Session, way: Way, *, dry_run: bool) -> int:
    linked: list[Pair] = []
    with Workspace.open() as workspace, session.progress() as progress:
        pairs = plan_links(workspace, way) if dry_run else link_duplicates(workspace, way, progress)
        for pair in pairs:
            if isinstance(pair, Failure):
                session.fail(pair)
                continue
            linked.append(pair)
            if not session.as_json:
                names = f"{plain(pair.path)} -> {plain(pair.kept)}"
                session.output.line(f"#{pair.asset}  {pair.way.value}  {names}")
    reclaimed = sum(pair.frees for pair in linked)
    if session.as_json:
        documents = [pair.to_json() for pair in linked]
        session.output.document(
            {"linked": documents, "reclaimed": reclaimed, "errors": session.errors()}
        )
    else:
        session.output.line(f"{len(linked)} linked, {size(reclaimed)} free")
    return session.status


def _undo(session: Session, *, dry_run: bool) -> int:
    restored: list[Restored] = []
    with Workspace.open() as workspace, session.progress() as progress:
        for done in undo_links(workspace, progress, dry_run=dry_run):
            if isinstance(done, Failure):
                session.fail(done)
                continue
            restored.append(done)
            if not session.as_json:
                session.output.line(f"#{done.asset}  {size(done.bytes):>8}  {plain(done.path)}")
    if session.as_json:
        documents = [asdict(done) for done in restored]
        session.output.document({"restored": documents, "errors": session.errors()})
    else:
        session.output.line(f"{len(restored)} have their own bytes again")
    return session.status


def _list(session: Session, by: str) -> int:
    with Workspace.open() as workspace, session.progress() as progress:
        groups, failures = find_duplicates(workspace, by, progress)
    for failure in failures:
        session.fail(failure)
    total = sum(group.reclaimable for group in groups)
    if session.as_json:
        documents = [group.to_json() for group in groups]
        session.output.document(
            {"groups": documents, "reclaimable": total, "errors": session.errors()}
        )
        return session.status
    for group in groups:
        _print(session, group)
    word = "group" if len(groups) == 1 else "groups"
    session.output.line(f"{len(groups)} {word}, {size(total)} could be free")
    return session.status


def _print(session: Session, group: Group) -> None:
    session.output.line(f"{plain(group.name)}  {group.kind}  {size(group.reclaimable)} to free")
    for copy in group.copies:
        note = f"  ({copy.link.value} link)" if copy.link else ""
        session.output.line(f"  #{copy.asset}  {size(copy.bytes):>8}  {plain(copy.path)}{note}")
