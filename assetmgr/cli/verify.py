"""`assetmgr verify`."""

from __future__ import annotations

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.operations.failures import Failure
from assetmgr.operations.verify import Verified
from assetmgr.operations.verify import verify as verify_assets
from assetmgr.text import plain
from assetmgr.workspace import Workspace

_FIELDS: dict[str, object] = {
    "asset": None,
    "path": None,
    "integrity": None,
    "structure": None,
    "render": None,
    "checks": [],
}


@click.command(epilog="Example: assetmgr verify '#12' model.safetensors --render")
@click.argument("assets", nargs=-1, metavar="[ASSET]...", shell_complete=completion.asset)
@click.option("--render", is_flag=True, help="Prove with a preview that they work, too.")
@common_options
@click.pass_obj
def verify(session: Session, assets: tuple[str, ...], render: bool) -> int:
    """Read files again: the same bytes as registered, complete, every number finite.

    Without an asset all of the library that is there. Registered hashes are never replaced.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        results = verify_assets(workspace, assets, progress, render=render)
        documents = [_report(session, result) for result in results]
    if session.as_json:
        session.output.document(documents)
    elif not documents:
        session.output.line("no file of the library is there to verify; scan a folder first")
    return session.status


def _report(session: Session, result: Verified | Failure) -> dict[str, object]:
    if isinstance(result, Failure):
        session.fail(result)
        return failed_item(result, {**_FIELDS, "path": result.item})
    wrong = [check for check in result.checks if not check.ok]
    for check in wrong:
        session.fail(Failure(result.path, f"{check.name}: {check.detail}", "check_failed", None))
    if result.render == "failed":
        session.fail(Failure(result.path, "its preview failed", "check_failed", None))
    if not session.as_json:
        verdict = "ok" if result.is_ok else "FAILED"
        session.output.line(f"#{result.asset}  {verdict:<6}  {plain(result.path)}")
    return result.to_json()
