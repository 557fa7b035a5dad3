"""`assetmgr civitai peek`."""

from __future__ import annotations

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.cli.peek import report_peek
from assetmgr.operations.peek import civitai_peek
from assetmgr.workspace import Workspace


@click.command(epilog="Example: assetmgr civitai peek 128713")
@click.argument("version")
@click.argument("file", required=False)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@common_options
@click.pass_obj
def peek(session: Session, version: str, file: str | None, tensors: bool) -> int:
    """Say what a remote file is, and whether it is safe, without downloading it.

    VERSION and FILE as for `download`. Only the header of a safetensors file or the pickle inside
    of a .ckpt is fetched.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        found = civitai_peek(workspace, version, file, progress)
    return report_peek(session, found, tensors=tensors)
