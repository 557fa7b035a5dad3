"""`assetmgr hub peek`."""

from __future__ import annotations

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.cli.peek import report_peek
from assetmgr.operations.hub_plan import parse_repo
from assetmgr.operations.peek import hub_peek
from assetmgr.workspace import Workspace


@click.command(epilog="Example: assetmgr hub peek ORG/REPO model.ckpt")
@click.argument("repo", metavar="REPO[@REVISION]")
@click.argument("file")
@click.option("--tensors", is_flag=True, help="List every tensor.")
@common_options
@click.pass_obj
def peek(session: Session, repo: str, file: str, tensors: bool) -> int:
    """Say what a remote file is, and whether it is safe, without downloading it.

    Only the header of a safetensors file or the pickle inside of a .ckpt is fetched.
    """
    name, revision = parse_repo(repo)
    with Workspace.open() as workspace:
        return report_peek(session, hub_peek(workspace, name, file, revision), tensors=tensors)
