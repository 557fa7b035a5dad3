"""`assetmgr hub download`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

import click

from assetmgr.cli.download_options import (
    Chosen,
    bars,
    download_options,
    print_download,
    warn_of_danger,
    warn_of_shortages,
)
from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.operations.failures import Failure
from assetmgr.operations.hub.address import parse_named
from assetmgr.operations.hub.download import downloads, queue_download
from assetmgr.operations.hub.plan import (
    Download,
    Downloaded,
    DownloadRequest,
    plan_download,
)
from assetmgr.workspace import Workspace

_SHOWN = 3

_FIELDS: dict[str, object] = {
    "repo": None,
    "revision": None,
    "file": None,
    "url": None,
    "bytes": None,
    "sha256": None,
    "asset": None,
    "kind": None,
    "safety": None,
    "licence": None,
    "download": None,
    "missing_parts": None,
    "state": None,
}


@click.command(
    epilog="Example: assetmgr hub download ORG/REPO@main model.safetensors --to ~/models"
)
@click.argument("repo", metavar="REPO[@REVISION]")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("--include", multiple=True, metavar="PATTERN", help="Only files like 'unet/*'.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No files like '*.bin'.")
@click.option("--variant", help="Where a file has this variant, such as fp16, only that.")
@click.option("--cache", is_flag=True, help="Into the cache that diffusers and others share.")
@download_options
@common_options
@click.pass_obj
def download(
    session: Session,
    repo: str,
    files: tuple[str, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    variant: str | None,
    cache: bool,
    chosen: Chosen,
) -> int:
    """Download model files into the library, verified against the Hub's hashes.

    REPO may be the address of a page of it, or of a file. FILE is a name, a folder or a pattern;
    without it and --include all models. Files go to the folder of their kind below the models
    folder, those of a model in several files together to that of pipelines, unless --to names
    another; what the library has is not fetched. Everything goes through the queue: what breaks off
    goes on with the same command, or `downloads run`.
    """
    if cache and (chosen.folder or chosen.layout):
        cause = "--cache goes with neither --to nor --layout."
        raise click.UsageError(cause, click.get_current_context())
    named = parse_named(repo)
    request = DownloadRequest(
        named.repo,
        named.revision,
        files or ((named.file,) if named.file else ()),
        chosen.folder,
        chosen.layout,
        chosen.again,
        chosen.priority,
        chosen.rate,
        include,
        exclude,
        variant,
        cache,
    )
    with Workspace.open() as workspace, bars(session) as progress:
        results: Iterable[Download | Downloaded | Failure]
        if chosen.dry_run:
            results = plan_download(workspace, request, progress)
        elif chosen.later:
            results = queue_download(workspace, request, progress)
        else:
            results = downloads(workspace, request, progress, watch=progress.watch)
        documents = [_report(session, result) for result in results]
        if chosen.later:
            warn_of_shortages(session, workspace)
    _warn_of_missing_parts(session, documents)
    if session.as_json:
        session.output.document(documents)
    return session.status


def _report(session: Session, result: Download | Downloaded | Failure) -> dict[str, object]:
    if isinstance(result, Failure):
        session.fail(result)
        return failed_item(result, _FIELDS)
    document = result.to_json()
    if isinstance(result, Downloaded):
        warn_of_danger(session, document)
    if not session.as_json:
        print_download(session, result.file.name, result.file.size, document)
    return document


def _warn_of_missing_parts(session: Session, documents: Iterable[Mapping[str, object]]) -> None:
    """Say once of each model which of its parts nobody asked for and are not there."""
    lacking = {str(missing): each for each in documents if (missing := each["missing_parts"])}
    for each in lacking.values():
        missing = [name.rpartition("/")[2] for name in cast("list[str]", each["missing_parts"])]
        count = (
            "1 other part of its model is"
            if len(missing) == 1
            else f"{len(missing)} other parts of its model are"
        )
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        folder = str(each["file"]).rpartition("/")[0]
        whole = f"assetmgr hub download {each['repo']} {folder}".rstrip()
        session.warn(f"{each['file']}: {count} missing: {shown}; `{whole}` brings all")
