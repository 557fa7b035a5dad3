"""`assetmgr diff`."""

from __future__ import annotations

import click

from assetmgr.cli import completion
from assetmgr.cli.failures import DONE, FAILED
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.diff import Comparison, compare
from assetmgr.text import plain
from assetmgr.workspace import Workspace

_SHOWN = 20
"""Differences named without --verbose: of another precision every tensor differs, and what the
components say would scroll away."""


@click.command(epilog="Example: assetmgr diff model.ckpt model.safetensors")
@click.argument("a", shell_complete=completion.asset)
@click.argument("b", shell_complete=completion.asset)
@click.option("--read", is_flag=True, help="Read the files, also where the library knows them.")
@common_options
@click.pass_obj
def diff(session: Session, a: str, b: str, read: bool) -> int:
    """Say which tensors two models differ in; the exit code is 1 when they do.

    The container does not matter, nor do metadata: a .ckpt equals its safetensors twin. Of files
    that the library knows nothing is read, and they need not be there.
    The first differences are named, with --verbose all.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        found = compare(workspace, a, b, progress, read=read)
    if session.as_json:
        session.output.document(found.to_json())
    else:
        _print(session, found)
    return DONE if found.equal else FAILED


def _print(session: Session, found: Comparison) -> None:
    for part in found.components:
        verdict = f"{part.different} differ" if part.different else "all the same"
        number = part.same + part.different
        session.output.line(f"{plain(part.name):<14} {number} tensors, {verdict}")
    for name in found.unlike:
        hint = ": --read reads the files" if found.from_index else ""
        session.output.line(f"{plain(name):<14} kept in other tensors by the other layout{hint}")
    shown = found.differences if session.verbose else found.differences[:_SHOWN]
    for each in shown:
        session.output.line(f"  {plain(each.name)} {each.how}")
    if left := len(found.differences) - len(shown):
        session.output.line(f"  and {left:,} more; --verbose names all")
