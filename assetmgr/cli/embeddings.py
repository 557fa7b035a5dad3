"""`assetmgr extract embeddings` and `assetmgr merge embeddings`."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, model_output
from assetmgr.operations.embeddings import (
    EmbeddingPlan,
    ExtractRequest,
    MergeRequest,
    plan_extract,
    plan_merge,
    run_embeddings,
)
from assetmgr.text import plain
from assetmgr.workspace import Workspace
from converters.embedding_forms import FORMS


@click.command(
    "embeddings",
    epilog="Example: assetmgr extract embeddings bundle.safetensors --output-dir embeddings",
)
@click.argument("source", shell_complete=completion.asset)
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for the targets.")
@click.option("--per-encoder", is_flag=True, help="The halves of SDXL's embeddings apart.")
@click.option("--layout", type=click.Choice(FORMS), help="Form of each; else what most read.")
@click.option(
    "--rest", type=click.Path(path_type=Path), help="Write the adapter without its embeddings here."
)
@click.option("--overwrite", is_flag=True, help="Replace targets that exist.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def extract_embeddings(
    session: Session,
    source: str,
    output_dir: Path | None,
    per_encoder: bool,
    layout: str | None,
    rest: Path | None,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Take embeddings out of an adapter or a file of several, each into a file of its own.

    Their files are named after them, beside the source unless told otherwise.
    """
    request = ExtractRequest(source, output_dir, per_encoder, layout, rest, overwrite)
    with Workspace.open() as workspace, session.progress() as progress:
        plan = plan_extract(workspace, request)
        result = plan if dry_run else run_embeddings(workspace, plan, progress)
    _report(session, plan, result.to_json())
    return session.status


@click.command(
    "embeddings",
    epilog="Example: assetmgr merge embeddings cat.pt --into lora.safetensors -o all.safetensors",
)
@click.argument(
    "embeddings",
    nargs=-1,
    required=True,
    metavar="EMBEDDING...",
    shell_complete=completion.asset,
)
@model_output
@click.option("--into", metavar="ADAPTER", help="Bundle them in this adapter.")
@click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def merge_embeddings(
    session: Session,
    embeddings: tuple[str, ...],
    output: Path,
    into: str | None,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Put embeddings into one file: the two halves for SDXL, several tokens, or into an adapter."""
    request = MergeRequest(embeddings, output, into, overwrite)
    with Workspace.open() as workspace, session.progress() as progress:
        plan = plan_merge(workspace, request)
        result = plan if dry_run else run_embeddings(workspace, plan, progress)
    _report(session, plan, result.to_json())
    return session.status


def _report(session: Session, plan: EmbeddingPlan, document: dict[str, object]) -> None:
    if session.as_json:
        session.output.document(document)
        return
    for file in plan.files:
        names = ", ".join(map(plain, file.names)) or "the adapter without embeddings"
        session.output.line(f"-> {plain(str(file.target))}  {names}")
