"""The options that all downloads have."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from assetmgr.cli.download_bars import DownloadBars
from assetmgr.cli.options import Session
from assetmgr.config import LAYOUTS
from assetmgr.operations.downloads.queue import PRIORITIES, shortages
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace

RATE = click.option("--rate", metavar="RATE", help="At most so much a second, as in 5MB.")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The values of these options, as the requests of both services take them."""

    folder: Path | None
    layout: str | None
    again: bool
    later: bool
    priority: int
    rate: str | None
    dry_run: bool


def download_options(command: Callable[..., int]) -> Callable[..., int]:
    """Where files go, how fast, and whether now; their values are the argument `chosen`."""

    @functools.wraps(command)
    def called(*arguments: object, **values: Any) -> int:
        given = {field.name: values.pop(field.name) for field in fields(Chosen)}
        chosen = Chosen(**{**given, "priority": PRIORITIES[given["priority"]]})
        return command(*arguments, chosen=chosen, **values)

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
        called = option(called)
    return called


def bars(session: Session) -> DownloadBars:
    """Bars on stderr, when wanted."""
    return DownloadBars(quiet=session.quiet or session.as_json, verbose=session.verbose)


def print_download(
    session: Session, name: str, nbytes: int | None, document: Mapping[str, object]
) -> None:
    """The line of a file: what has become of it, and where it is once it is there."""
    known = f"have it: #{document['asset']}" if document["state"] == "already" else None
    state = known or document["state"] or "to download"
    is_there = document["path"] and document["state"] != "queued"  # another place has it, then
    place = f" -> {plain(str(document['path']))}" if is_there else ""
    session.output.line(f"{plain(name)}  {size(nbytes)}  {state}{place}")


def warn_of_danger(session: Session, document: Mapping[str, object]) -> None:
    """Say that what has come is a pickle that would do harm."""
    if document["safety"] == "dangerous" and document["path"] is not None:
        path = document["path"]
        session.warn(f"{path}: is a dangerous pickle; never open it with another program")


def warn_of_shortages(session: Session, workspace: Workspace) -> None:
    """Say which disks are too small for all that is queued."""
    for short in shortages(workspace):
        session.warn(
            f"{plain(str(short.folder))}: what is queued needs {size(short.needed)},"
            f" {size(short.free)} are free"
        )
