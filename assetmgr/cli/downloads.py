"""`assetmgr downloads`: the queue."""

from __future__ import annotations

import click

from assetmgr.cli.download_options import RATE, bars, warn_of_shortages
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.downloads.queue import (
    PRIORITIES,
    cancel_downloads,
    clear_downloads,
    list_downloads,
    move_download,
    pause_downloads,
    prioritise_download,
    resume_downloads,
    shortages,
)
from assetmgr.operations.downloads.report import download_json, shortage_json
from assetmgr.operations.downloads.run import Ended, run_downloads
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from converters.errors import BadValue
from registry.downloads.records import DownloadState, QueuedDownload

_NUMBERS = click.argument("numbers", nargs=-1, type=click.IntRange(1), metavar="[NUMBER]...")
_ALL = click.option("--all", "every", is_flag=True, help="All of them.")


@click.group(epilog="Example: assetmgr downloads run")
def downloads() -> None:
    """See, run, pause, resume, cancel and order the downloads that are queued."""


@downloads.command("list", epilog="Example: assetmgr downloads list")
@common_options
@click.pass_obj
def list_(session: Session) -> int:
    """List the queue: what runs and waits in its order, what failed, what was done lately."""
    with Workspace.open() as workspace:
        _show(session, workspace, list_downloads(workspace))
    return session.status


@downloads.command(epilog="Example: assetmgr downloads run --rate 5MB")
@_NUMBERS
@RATE
@common_options
@click.pass_obj
def run(session: Session, numbers: tuple[int, ...], rate: str | None) -> int:
    """Download what is queued, or only some of it, until all of that has ended.

    What failed because something was not available, or the disk was full, is tried again. Several
    programs may run the queue at once: they share it.
    """
    documents: list[dict[str, object]] = []
    with Workspace.open() as workspace, bars(session) as progress:
        warn_of_shortages(session, workspace)
        only = _only(workspace, numbers)
        for ended in run_downloads(
            workspace, only, rate=rate, watch=progress.watch, progress=progress
        ):
            documents += [_ended(session, ended)]
        documents = _as_noted(workspace, documents)
    if session.as_json:
        session.output.document({"downloads": documents, "errors": session.errors()})
    elif not documents:
        session.output.line("nothing is queued")
    return session.status


@downloads.command(epilog="Example: assetmgr downloads pause 3")
@_NUMBERS
@_ALL
@common_options
@click.pass_obj
def pause(session: Session, numbers: tuple[int, ...], every: bool) -> int:
    """Let downloads wait until they are resumed; what has come is kept."""
    with Workspace.open() as workspace:
        _show(session, workspace, pause_downloads(workspace, _named(numbers, every=every)))
    return session.status


@downloads.command(epilog="Example: assetmgr downloads resume --all")
@_NUMBERS
@_ALL
@common_options
@click.pass_obj
def resume(session: Session, numbers: tuple[int, ...], every: bool) -> int:
    """Queue again what is paused or failed; `downloads run` fetches it."""
    with Workspace.open() as workspace:
        _show(session, workspace, resume_downloads(workspace, _named(numbers, every=every)))
    return session.status


@downloads.command(epilog="Example: assetmgr downloads cancel 3")
@_NUMBERS
@_ALL
@common_options
@click.pass_obj
def cancel(session: Session, numbers: tuple[int, ...], every: bool) -> int:
    """Take downloads off the queue, and remove what has come of them."""
    with Workspace.open() as workspace:
        gone = cancel_downloads(workspace, _named(numbers, every=every))
    if session.as_json:
        documents = [download_json(each) for each in gone]
        session.output.document({"cancelled": documents, "errors": []})
        return session.status
    for each in gone:
        session.output.line(f"{each.id}  {plain(each.wanted.label)}  cancelled")
    if not gone:
        session.output.line("nothing is queued")
    return session.status


@downloads.command(epilog="Example: assetmgr downloads move 3 --first")
@click.argument("number", type=click.IntRange(1))
@click.option("--first/--last", "first", default=None, help="Before or behind all others.")
@click.option("--priority", type=click.Choice(list(PRIORITIES)), help="High ones run first.")
@common_options
@click.pass_obj
def move(session: Session, number: int, first: bool | None, priority: str | None) -> int:
    """Change when a download has its turn."""
    if first is None and priority is None:
        raise BadValue("say --first, --last or --priority")
    with Workspace.open() as workspace:
        if priority is not None:
            prioritise_download(workspace, number, PRIORITIES[priority])
        if first is not None:
            move_download(workspace, number, first=first)
        _show(session, workspace, list_downloads(workspace))
    return session.status


@downloads.command(epilog="Example: assetmgr downloads clear")
@common_options
@click.pass_obj
def clear(session: Session) -> int:
    """Forget the downloads that are done; their files stay."""
    with Workspace.open() as workspace:
        count = clear_downloads(workspace)
    if session.as_json:
        session.output.document({"cleared": count, "errors": []})
    else:
        session.output.line(f"{count} cleared")
    return session.status


def _named(numbers: tuple[int, ...], *, every: bool) -> tuple[int, ...] | None:
    if bool(numbers) == every:
        raise BadValue("name the downloads by their numbers, or say --all")
    return None if every else numbers


def _only(workspace: Workspace, numbers: tuple[int, ...]) -> tuple[int, ...] | None:
    """Those that are named are to run whatever became of them before."""
    return tuple(each.id for each in resume_downloads(workspace, numbers)) if numbers else None


def _show(session: Session, workspace: Workspace, shown: tuple[QueuedDownload, ...]) -> None:
    if session.as_json:
        document = {
            "downloads": [download_json(each) for each in shown],
            "shortages": [shortage_json(each) for each in shortages(workspace)],
            "errors": [],
        }
        session.output.document(document)
        return
    if shown:
        heading = ("", "file", "size", "priority", "state")
        session.output.table(heading, [_row(each) for each in shown])
    else:
        session.output.line("nothing is queued")
    warn_of_shortages(session, workspace)


def _row(download: QueuedDownload) -> tuple[str, ...]:
    words = {number: word for word, number in PRIORITIES.items()}
    priority = words.get(download.priority, "") if download.priority else ""
    label, nbytes = download.wanted.label, size(download.wanted.bytes)
    return str(download.id), label, nbytes, priority, _state(download)


def _state(download: QueuedDownload) -> str:
    if download.trouble is not None:
        return f"failed: {download.trouble.error}"
    if download.arrival is not None:
        return f"{download.arrival.outcome} -> {download.arrival.path}"
    if download.wish is not None:
        return f"to {download.wish}"
    total = download.wanted.bytes
    is_begun = total and download.received and download.state is not DownloadState.DONE
    return (
        f"{download.state} {download.received / total:.0%}"
        if is_begun and total
        else (download.state.value)
    )


def _as_noted(workspace: Workspace, documents: list[dict[str, object]]) -> list[dict[str, object]]:
    """With how much has come, and when that ended, as the queue keeps it."""
    noted: dict[object, dict[str, object]]
    noted = {each.id: download_json(each) for each in list_downloads(workspace)}
    return [
        {**each, **{name: noted.get(each["id"], each)[name] for name in ("received", "ended")}}
        for each in documents
    ]


def _ended(session: Session, ended: Ended) -> dict[str, object]:
    """Tell how a download ended."""
    label = plain(ended.download.wanted.label)
    outcome, place, asset = ended.stopped, None, None
    if ended.failure is not None:
        session.fail(ended.failure)
        outcome = "failed"
    elif ended.received is not None:
        received = ended.received
        outcome, place, asset = received.state, str(received.path), received.asset.id
        if received.asset.safety.verdict.value == "dangerous":
            session.warn(f"{place}: is a dangerous pickle; never open it with another program")
    if not session.as_json and ended.failure is None:
        arrow = f" -> {plain(place)}" if place else ""
        session.output.line(f"{ended.download.id}  {label}  {outcome}{arrow}")
    failure = None if ended.failure is None else ended.failure.to_json()
    return {
        **download_json(ended.download),
        "state": "done" if place else outcome,
        "outcome": outcome if place else None,
        "path": place,
        "asset": asset,
        "failure": failure,
    }
