"""`assetmgr move` and `assetmgr rename`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.operations.move import Move, MoveRequest, plan_moves, run_moves
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Say what would go where.")


@click.command(epilog="Example: assetmgr move '#12' style.safetensors --to models/lora")
@click.argument("assets", nargs=-1, required=True, metavar="ASSET...")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path), help="The folder.")
@_DRY_RUN
@common_options
@click.pass_obj
def move(session: Session, assets: tuple[str, ...], folder: Path, dry_run: bool) -> int:
    """Move the files of assets into a folder, with the sidecars and pictures beside them.

    Nothing is ever replaced. On another disk the copy is compared with the file before that goes.
    The library follows: tags, notes and previews stay.
    """
    return _run(session, MoveRequest(assets, folder=folder), dry_run=dry_run)


@click.command(epilog="Example: assetmgr rename '#12' 'ink wash v2'")
@click.argument("asset")
@click.argument("name")
@_DRY_RUN
@common_options
@click.pass_obj
def rename(session: Session, asset: str, name: str, dry_run: bool) -> int:
    """Give the files of an asset another name, and the sidecars and pictures beside them.

    The ending stays. Nothing is ever replaced.
    """
    return _run(session, MoveRequest((asset,), name=name), dry_run=dry_run)


def _run(session: Session, request: MoveRequest, *, dry_run: bool) -> int:
    with Workspace.open() as workspace:
        done = session.succeeded(plan_moves(workspace, request))
        if not dry_run:
            with session.progress() as progress:
                done = session.succeeded(run_moves(workspace, done, progress))
    for item in done:
        if item.outside:
            session.warn(f"{item.target}: outside of the library's folders, no scan looks there")
    if session.as_json:
        documents = [item.to_json() for item in done]
        session.output.document({"moved": documents, "errors": session.errors()})
        return session.status
    for line in (line for item in done for line in _lines(item)):
        session.output.line(line)
    return session.status


def _lines(item: Move) -> Iterator[str]:
    yield f"#{item.asset}  {size(item.bytes):>8}  {plain(item.source)} -> {plain(item.target)}"
    for _, new in item.sidecars:
        yield f"{'':14}  {plain(new)}"
