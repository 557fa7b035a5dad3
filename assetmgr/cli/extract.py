"""`assetmgr extract`: parts of checkpoints, and differences of two, as files of their own."""

from __future__ import annotations

from pathlib import Path

import click

from assetmgr.assetref import find_file
from assetmgr.cli import completion
from assetmgr.cli.convert import report, run_planned
from assetmgr.cli.embeddings import extract_embeddings
from assetmgr.cli.extract_full import full
from assetmgr.cli.extract_lora import lora
from assetmgr.cli.options import Session, common_options
from assetmgr.operations.convert.change import DTYPES, Change
from assetmgr.operations.convert.formats import word_for
from assetmgr.operations.convert.plan import ConvertRequest, plan_convert
from assetmgr.workspace import Workspace

_COMPONENTS = {
    "vae": ("vae", "Take the VAE out of a checkpoint."),
    "unet": ("unet", "Take the UNet out of a checkpoint."),
    "text-encoder": ("text_encoder", "Take the first text encoder out of a checkpoint."),
    "text-encoder-2": ("text_encoder_2", "Take the second text encoder out of a checkpoint."),
}
"""Command -> component, and its help."""


@click.group(epilog="Example: assetmgr extract vae model.safetensors")
def extract() -> None:
    """Take parts or differences out of models."""


def _component_command(name: str, component: str, text: str) -> click.Command:
    """The command of one component; they differ in nothing else."""

    @click.command(
        name, help=text, epilog=f"Example: assetmgr extract {name} model.ckpt -o {name}.safetensors"
    )
    @click.argument("checkpoint", shell_complete=completion.asset)
    @click.option("-o", "--output", type=click.Path(path_type=Path), help="Target.")
    @click.option("--dtype", type=click.Choice(list(DTYPES)), default="keep", help="Precision.")
    @click.option("--verify", is_flag=True, help="Read the target again and compare every tensor.")
    @click.option("--overwrite", is_flag=True, help="Replace a target that exists.")
    @click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
    @common_options
    @click.pass_obj
    def command(
        session: Session,
        checkpoint: str,
        output: Path | None,
        dtype: str,
        verify: bool,
        overwrite: bool,
        dry_run: bool,
    ) -> int:
        change = Change(dtype, extract=component)
        with Workspace.open() as workspace, session.progress() as progress:
            source = find_file(workspace, checkpoint)
            target = output or source.with_name(f"{source.stem}.{component}.safetensors")
            request = ConvertRequest(
                (str(source),), target, change=change, to=word_for(target), overwrite=overwrite
            )
            (plan,) = plan_convert(request)
            result = plan if dry_run else run_planned(workspace, plan, progress, verify=verify)
            document = report(session, result)
        if session.as_json:
            session.output.document(document)
        return session.status

    return command


for _name, (_component, _text) in _COMPONENTS.items():
    extract.add_command(_component_command(_name, _component, _text))
extract.add_command(lora)
extract.add_command(full)
extract.add_command(extract_embeddings)
