"""`assetmgr export` and `import`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from assetmgr.cli.options import Session, common_options
from assetmgr.operations.userdata import export_userdata, import_userdata
from assetmgr.text import plain
from assetmgr.workspace import Workspace
from converters.writers.atomic import write_whole


@click.command("export", epilog="Example: assetmgr export -o mine.json")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Target; else stdout.")
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@common_options
@click.pass_obj
def export_(session: Session, output: Path | None, overwrite: bool) -> int:
    """Write all tags, notes and ratings, by the content they are on."""
    with Workspace.open() as workspace:
        document = export_userdata(workspace)
    if output is not None:
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_whole(output, text.encode("utf-8", "surrogateescape"), overwrite=overwrite)
    if output is None or session.as_json:
        session.output.document(document)
    else:
        session.output.line(f"-> {plain(str(output))}")
    return session.status


@click.command("import", epilog="Example: assetmgr import mine.json")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace notes and ratings that are there.")
@common_options
@click.pass_obj
def import_(session: Session, file: Path, overwrite: bool) -> int:
    """Put exported tags, notes and ratings on the assets of the same content.

    What is written here stays: tags are added, notes and ratings only where there are none.
    """
    with Workspace.open() as workspace:
        done = import_userdata(workspace, file, overwrite=overwrite)
    if done.unknown:
        first, *others = done.unknown
        many = f"{first} and {len(others)} more are" if others else f"{first} is"
        session.warn(f"{many} not in this library; scan the files, then import again")
    if session.as_json:
        session.output.document(done.to_json())
    else:
        session.output.line(f"{done.changed} changed, {done.unchanged} as they were")
    return session.status
