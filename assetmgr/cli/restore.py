"""`assetmgr restore`."""

from __future__ import annotations

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.operations.restore import plan_restore, run_restore
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace


@click.command(epilog="Example: assetmgr restore '#12'")
@click.argument("assets", nargs=-1, required=True, metavar="ASSET...")
@click.option("--dry-run", is_flag=True, help="Say what would come back.")
@common_options
@click.pass_obj
def restore(session: Session, assets: tuple[str, ...], dry_run: bool) -> int:
    """Bring the missing files of assets back from the system's trash, with what lay beside them.

    A file comes back where it was, if that name is free and the file is as it was scanned.
    """
    with Workspace.open() as workspace:
        done = session.succeeded(plan_restore(workspace, assets))
        if not dry_run:
            with session.progress() as progress:
                done = session.succeeded(run_restore(workspace, done, progress))
    if session.as_json:
        documents = [item.to_json() for item in done]
        session.output.document({"restored": documents, "errors": session.errors()})
        return session.status
    for item in done:
        session.output.line(f"#{item.asset}  {size(item.bytes):>8}  {plain(item.path)}")
        for sidecar in item.sidecars:
            session.output.line(f"{'':14}  {plain(sidecar)}")
    return session.status
