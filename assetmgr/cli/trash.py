"""`assetmgr trash`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.trash import Discarded, discard, plan_trash
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace


@click.command(epilog="Example: assetmgr trash '#12' old.ckpt")
@click.argument(
    "assets", nargs=-1, required=True, metavar="ASSET...", shell_complete=completion.asset
)
@click.option("--permanent", is_flag=True, help="Delete, without the trash.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would go.")
@common_options
@click.pass_obj
def trash(
    session: Session, assets: tuple[str, ...], permanent: bool, yes: bool, dry_run: bool
) -> int:
    """Move the files of assets to the system's trash, and the sidecars and pictures beside them.

    The library keeps the assets as missing, with their tags, notes and previews. Of a symbolic link
    the link goes. A file that changed since it was scanned stays.
    """
    with Workspace.open() as workspace:
        planned = session.succeeded(plan_trash(workspace, assets, permanent=permanent))
        if not dry_run and planned:
            _ask(planned, yes=yes)
            planned = session.succeeded(discard(workspace, planned))
    if session.as_json:
        documents = [item.to_json() for item in planned]
        session.output.document({"trashed": documents, "errors": session.errors()})
        return session.status
    for item in planned:
        for line in _lines(item):
            session.output.line(line)
    return session.status


def _lines(item: Discarded) -> Iterator[str]:
    yield f"#{item.asset}  {size(item.bytes):>8}  {plain(item.path)}"
    for sidecar in item.sidecars:
        yield f"{'':14}  {plain(sidecar)}"


def _ask(planned: list[Discarded], *, yes: bool) -> None:
    """Only a person at a terminal is asked. Raises Abort."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    for item in planned:
        for line in _lines(item):
            click.echo(line, err=True)
    what = "Delete for good" if planned[0].permanent else "Move to the trash"
    click.confirm(f"{what}: {len(planned)} files?", abort=True, err=True)
