"""`assetmgr civitai download`."""

from __future__ import annotations

import click

from assetmgr.cli.download_options import (
    Chosen,
    bars,
    download_options,
    print_download,
    warn_of_danger,
    warn_of_shortages,
)
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.civitai.download import (
    CivitaiRequest,
    civitai_download,
    queue_civitai_download,
)
from assetmgr.operations.civitai.plan import plan_civitai_download
from assetmgr.text import plain
from assetmgr.workspace import Workspace


@click.command(epilog="Example: assetmgr civitai download 128713 --to ~/models")
@click.argument("version")
@click.argument("file", required=False)
@download_options
@common_options
@click.pass_obj
def download(
    session: Session,
    version: str,
    file: str | None,
    chosen: Chosen,
) -> int:
    """Download a file of a version into the library, verified against the site's SHA-256.

    VERSION is its number, MODEL@VERSION, an AIR or an address; without FILE (a name or number) its
    primary file. It goes to the folder of its kind unless --to names another, and what the site
    says of it goes beside it. It goes through the queue: a transfer that broke off goes on with the
    same command, or `downloads run`.
    """
    request = CivitaiRequest(
        version,
        file,
        chosen.folder,
        chosen.layout,
        chosen.again,
        chosen.priority,
        chosen.rate,
    )
    with Workspace.open() as workspace, bars(session) as progress:
        found = (
            plan_civitai_download(workspace, version, file, progress)
            if chosen.dry_run
            else queue_civitai_download(workspace, request, progress)
            if chosen.later
            else civitai_download(workspace, request, progress, watch=progress.watch)
        )
        if chosen.later:
            warn_of_shortages(session, workspace)
    document = found.to_json()
    warn_of_danger(session, document)
    if session.as_json:
        session.output.document({**document, "errors": []})
        return session.status
    print_download(session, found.file.name, found.file.size, document)
    if found.version.trained_words:
        session.output.line(f"trigger words: {plain(', '.join(found.version.trained_words))}")
    return session.status
