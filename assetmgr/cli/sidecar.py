"""`assetmgr sidecar write`."""

from __future__ import annotations

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.operations.failures import Failure
from assetmgr.operations.sidecar import SidecarRequest, SidecarWritten, write_sidecars
from assetmgr.text import plain
from assetmgr.workspace import Workspace

PROGRAMS = ("a1111", "civitai", "cm", "lora-manager", "swarm")
_FIELDS: dict[str, object] = {"asset": None, "model": None, "for": None, "state": None}


@click.group(epilog="Example: assetmgr sidecar write '#12' --for a1111")
def sidecar() -> None:
    """Write what the library knows beside models, for other programs."""


@sidecar.command(epilog="Example: assetmgr sidecar write '#12' --for a1111 --preview")
@click.argument(
    "assets", nargs=-1, required=True, metavar="ASSET...", shell_complete=completion.asset
)
@click.option(
    "--for",
    "programs",
    type=click.Choice(PROGRAMS),
    multiple=True,
    help="A1111 and Forge (.json), Civitai Helper (.civitai.info), StabilityMatrix "
    "(.cm-info.json), Lora Manager (.metadata.json), SwarmUI (.swarm.json).",
)
@click.option("--preview", is_flag=True, help="The verified render, too, as NAME.preview.png.")
@click.option("--overwrite", is_flag=True, help="Put ours into files that are not ours.")
@click.option("--dry-run", is_flag=True, help="Say what would be written.")
@common_options
@click.pass_obj
def write(
    session: Session,
    assets: tuple[str, ...],
    programs: tuple[str, ...],
    preview: bool,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Write description, trigger words, notes, base, hashes and origin beside models.

    A file that is not ours, or was edited since, stays unless --overwrite; keys of others in it
    stay even then. The model's file is never touched.
    """
    request = SidecarRequest(
        assets, tuple(dict.fromkeys(programs)), preview, overwrite=overwrite, dry_run=dry_run
    )
    with Workspace.open() as workspace:
        documents = [_report(session, result) for result in write_sidecars(workspace, request)]
    if session.as_json:
        session.output.document(documents)
    return session.status


def _report(session: Session, result: SidecarWritten | Failure) -> dict[str, object]:
    if isinstance(result, Failure):
        session.fail(result)
        return failed_item(result, _FIELDS)
    if not session.as_json:
        state = result.state or "would be written"
        session.output.line(f"#{result.asset}  {state}  {plain(result.path)}")
    return result.to_json()
