"""`assetmgr civitai`: the table of its verbs."""

from __future__ import annotations

import click

from assetmgr.cli.lazy import LazyGroup, Table

VERBS: Table = {
    "search": ("assetmgr.cli.civitai_find:search", "Search models by words."),
    "info": (
        "assetmgr.cli.civitai_find:info",
        "Show versions, files, hashes and licence of a model.",
    ),
    "peek": (
        "assetmgr.cli.civitai_peek:peek",
        "Say what a remote file is, and whether it is safe.",
    ),
    "lookup": ("assetmgr.cli.civitai_lookup:lookup_", "Find out what files are, by their hashes."),
    "download": (
        "assetmgr.cli.civitai_download:download",
        "Download a file of a version into the library.",
    ),
    "enrich": (
        "assetmgr.cli.civitai_library:enrich_",
        "Keep beside models what Civitai says of them.",
    ),
    "updates": (
        "assetmgr.cli.civitai_library:updates_",
        "Say which models have newer versions there.",
    ),
}


@click.command(
    cls=LazyGroup, table=VERBS, epilog="Example: assetmgr civitai search 'line art' --kind lora"
)
def civitai() -> None:
    """Find models on Civitai, look files up there, download, enrich, keep up to date."""
