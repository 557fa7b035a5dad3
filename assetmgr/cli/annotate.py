"""`assetmgr note`, `rate` and `forget`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.annotate import forget as forget_all
from assetmgr.operations.annotate import set_note, set_rating
from assetmgr.operations.describe import asset_json
from assetmgr.text import plain
from assetmgr.workspace import Workspace

if TYPE_CHECKING:
    from registry.records import Asset


@click.command(epilog="Example: assetmgr note '#12' 'best at weight 0.7'")
@click.argument("asset", shell_complete=completion.asset)
@click.argument("text")
@common_options
@click.pass_obj
def note(session: Session, asset: str, text: str) -> int:
    """Keep a note on an asset, in place of the old one; an empty text removes it."""
    with Workspace.open() as workspace:
        _print(session, set_note(workspace, asset, text))
    return session.status


@click.command(epilog="Example: assetmgr rate '#12' 5")
@click.argument("asset", shell_complete=completion.asset)
@click.argument("stars", type=click.IntRange(0, 5))
@common_options
@click.pass_obj
def rate(session: Session, asset: str, stars: int) -> int:
    """Rate an asset from 0 to 5."""
    with Workspace.open() as workspace:
        _print(session, set_rating(workspace, asset, stars))
    return session.status


def _print(session: Session, asset: Asset) -> None:
    if session.as_json:
        session.output.document(asset_json(asset))
        return
    stars = "" if asset.rating is None else f"  {asset.rating}/5"
    session.output.line(
        f"#{asset.id}  {plain(asset.name)}{stars}  {plain(asset.note or '')}".rstrip()
    )


@click.command(epilog="Example: assetmgr forget '#12' old.ckpt")
@click.argument(
    "assets", nargs=-1, required=True, metavar="ASSET...", shell_complete=completion.asset
)
@common_options
@click.pass_obj
def forget(session: Session, assets: tuple[str, ...]) -> int:
    """Remove assets from the library, with their tags, notes and previews' records.

    Files are not touched: the next scan of their folders adds them again, without what was written
    on them. A folder that was scanned is looked through no more: its files are removed from the
    library; those that have a tag, a note or a rating stay in it as missing.
    """
    with Workspace.open() as workspace:
        forgotten, folders = forget_all(workspace, assets)
    if session.as_json:
        documents = [asset_json(asset) for asset in forgotten]
        document = {"assets": documents, "folders": list(folders), "errors": []}
        session.output.document(document)
    for folder in folders if not session.as_json else ():
        session.output.line(f"{plain(folder)} forgotten")
    for asset in forgotten if not session.as_json else ():
        session.output.line(f"#{asset.id}  {plain(asset.name)} forgotten")
    return session.status
