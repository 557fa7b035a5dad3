"""`assetmgr hash`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.operations.failures import Failure
from assetmgr.operations.hashing import Hashes, hash_paths, hashes_json
from assetmgr.text import plain, size


@click.command("hash", epilog="Example: assetmgr hash model.safetensors")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=completion.file)
@common_options
@click.pass_obj
def hash_(session: Session, paths: tuple[str, ...]) -> int:
    """Print every hash of files, each file read once.

    `weights` is a digest of the tensors alone: equal for a .ckpt and its .safetensors twin.
    """
    found = []
    with session.progress() as progress:
        for result in hash_paths(paths, progress):
            if isinstance(result, Failure):
                session.fail(result)
                found.append(failed_item(result, {"bytes": None, **hashes_json(None)}))
                continue
            found.append(result.to_json())
            if not session.as_json:
                _print(session, result)
    if not found:
        session.warn("no model files there")
    if session.as_json:
        session.output.document(found)
    return session.status


def _print(session: Session, result: Hashes) -> None:
    name = plain(str(Path(result.path)))
    session.output.line(f"{name}  {size(result.hashed.fingerprint.size)}")
    session.output.fields(
        [(label, value or "") for label, value in hashes_json(result.hashed).items()], indent="  "
    )
    session.output.line()
