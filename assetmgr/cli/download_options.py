"""The options that all downloads have."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli.download_bars import DownloadBars
from assetmgr.cli.options import Command, Session
from assetmgr.config import LAYOUTS
from assetmgr.operations.downloads import PRIORITIES, shortages
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace

RATE = click.option("--rate", metavar="RATE", help="At most so much a second, as in 5MB.")


def download_options(command: Command) -> Command:
    """Where files go, how fast, and whether now."""
    for option in reversed(
        (
            click.option(
                "--to", "folder", type=click.Path(path_type=Path), help="Folder for the files."
            ),
            click.option(
                "--layout",
                type=click.Choice(list(LAYOUTS)),
                help="The folder is that of this program: files go to its folders by kind.",
            ),
            click.option("--again", is_flag=True, help="Also what the library has already."),
            click.option(
                "--queue", "later", is_flag=True, help="Only queue: `downloads run` fetches it."
            ),
            click.option(
                "--priority",
                type=click.Choice(list(PRIORITIES)),
                default="normal",
                help="High ones run first.",
            ),
            RATE,
            click.option("--dry-run", is_flag=True, help="Print the plan and do nothing."),
        )
    ):
        command = option(command)
    return command


def bars(session: Session) -> DownloadBars:
    """Bars on stderr, when wanted."""
    return DownloadBars(quiet=session.quiet or session.as_json, verbose=session.verbose)


def warn_of_shortages(session: Session, workspace: Workspace) -> None:
    """Say which disks are too small for all that is queued."""
    for short in shortages(workspace):
        session.warn(
            f"{plain(str(short.folder))}: what is queued needs {size(short.needed)},"
            f" {size(short.free)} are free"
        )
