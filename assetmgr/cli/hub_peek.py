"""`assetmgr hub peek`."""

from __future__ import annotations

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.cli.peek import report_peek
from assetmgr.operations.hub.address import parse_named
from assetmgr.operations.peek import hub_peek
from assetmgr.workspace import Workspace


@click.command(epilog="Example: assetmgr hub peek ORG/REPO model.ckpt")
@click.argument("repo", metavar="REPO[@REVISION]")
@click.argument("file", required=False)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@common_options
@click.pass_obj
def peek(session: Session, repo: str, file: str | None, tensors: bool) -> int:
    """Say what a remote file is, and whether it is safe, without downloading it.

    REPO may be the address of a file: then there is no FILE. Only the header of a safetensors file
    or the pickle inside of a .ckpt is fetched.
    """
    named = parse_named(repo)
    chosen = file or named.file
    if chosen is None:
        cause = "Missing argument 'FILE', or the address of a file."
        raise click.UsageError(cause, click.get_current_context())
    with Workspace.open() as workspace:
        found = hub_peek(workspace, named.repo, chosen, named.revision)
        return report_peek(session, found, tensors=tensors)
