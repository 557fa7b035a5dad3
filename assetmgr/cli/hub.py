"""`assetmgr hub`: the table of its verbs."""

from __future__ import annotations

import click

from assetmgr.cli.lazy import LazyGroup, Table

VERBS: Table = {
    "search": ("assetmgr.cli.hub_find:search", "Search repositories by the words in their names."),
    "info": ("assetmgr.cli.hub_find:info", "Show files, hashes, licence and card of a repository."),
    "peek": ("assetmgr.cli.hub_peek:peek", "Say what a remote file is, and whether it is safe."),
    "download": ("assetmgr.cli.hub_download:download", "Download model files into the library."),
    "updates": ("assetmgr.cli.hub_find:updates", "Say what has changed since it was downloaded."),
}


@click.command(
    cls=LazyGroup, table=VERBS, epilog="Example: assetmgr hub download ORG/REPO model.safetensors"
)
def hub() -> None:
    """Find models on the Hugging Face Hub, look into their files, download, keep up to date."""
