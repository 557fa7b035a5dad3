"""`assetmgr duplicates`."""

from __future__ import annotations

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.operations.duplicates import BY, Group
from assetmgr.operations.duplicates import duplicates as find_duplicates
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace


@click.command(epilog="Example: assetmgr duplicates --by weights")
@click.option("--by", type=click.Choice(BY), default="file", help="The same bytes, or tensors.")
@common_options
@click.pass_obj
def duplicates(session: Session, by: str) -> int:
    """List files that the library has more than once, and what one of each would free.

    By weights, files in different containers or with other metadata count as equal when their
    tensors are.
    """
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
    session.output.line(f"{len(groups)} groups, {size(total)} could be free")
    return session.status


def _print(session: Session, group: Group) -> None:
    session.output.line(f"{plain(group.name)}  {group.kind}  {size(group.reclaimable)} to free")
    for copy in group.copies:
        note = "  (hard link)" if copy.shares else ""
        session.output.line(f"  #{copy.asset}  {size(copy.bytes):>8}  {plain(copy.path)}{note}")
