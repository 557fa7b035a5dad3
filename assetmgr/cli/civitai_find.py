"""`assetmgr civitai search` and `info`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import click

from assetmgr.cli.options import AT_LEAST_ONE, Session, common_options
from assetmgr.operations.civitai import find as models
from assetmgr.sources.civitai.site import Search
from assetmgr.sources.civitai.words import BASES, PERIODS, SORTS, TYPES
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from registry.sidecars.civitai import allowed

Document = Mapping[str, Any]
"""A document of the operations, of which a page for people is made."""


@click.command(epilog="Example: assetmgr civitai search 'line art' --kind lora --base sdxl")
@click.argument("text", metavar="[QUERY]", default="")
@click.option("--kind", type=click.Choice(list(TYPES)), help="Only models of this kind.")
@click.option("--base", metavar="BASE", help=f"{', '.join(BASES)}, or Civitai's own name of one.")
@click.option("--tag", help="Only with this tag.")
@click.option("--creator", help="Only of this user.")
@click.option("--nsfw/--no-nsfw", default=None, help="With or without adult models.")
@click.option("--sort", type=click.Choice(list(SORTS)), help="By default the best match first.")
@click.option("--period", type=click.Choice(list(PERIODS)), help="The time that an order counts.")
@click.option("--limit", type=AT_LEAST_ONE, default=20, help="At most so many; 20.")
@click.option("--cursor", help="Go on where an earlier search ended.")
@common_options
@click.pass_obj
def search(session: Session, /, **wanted: Any) -> int:
    """Search models by words."""
    with Workspace.open() as workspace, session.progress() as progress:
        found, cursor = models.search_page(workspace, Search(**wanted), progress)
    if session.as_json:
        session.output.document({"models": found, "next_cursor": cursor, "errors": []})
        return session.status
    for model in found:
        session.output.line(plain(f"{model['id'] or '-':>8}  {model['name']}"))
        session.output.line(plain(f"{'':8}  {'  '.join(_in_short(model))}"))
    session.output.line(f"{len(found)} found")
    if cursor is not None:
        session.output.line(f"more: --cursor {shlex.quote(plain(cursor))}")
    return session.status


def _in_short(model: Document) -> Iterator[str]:
    yield model["kind"] or model["type"] or "-"
    bases = dict.fromkeys(version["base_model"] or "-" for version in model["versions"])
    yield ", ".join(bases) or "-"
    if model["creator"]:
        yield f"by {model['creator']}"
    if model["downloads"] is not None:
        yield f"{model['downloads']:,} downloads"
    kept = {file["asset"] for version in model["versions"] for file in version["files"]} - {None}
    if kept:
        yield "have: " + " ".join(f"#{number}" for number in sorted(kept))


@click.command(epilog="Example: assetmgr civitai info 4384@128713")
@click.argument("model", metavar="MODEL|VERSION")
@common_options
@click.pass_obj
def info(session: Session, model: str) -> int:
    """Show versions, files, hashes, trigger words and licence of a model.

    MODEL is its number or the address of its page; a version is MODEL@VERSION, @VERSION or an AIR.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        found: Document = models.info(workspace, model, progress)
    if session.as_json:
        session.output.document({**found, "errors": []})
        return session.status
    session.output.line(f"{found['id'] or ''}  {plain(found['name'])}".strip())
    session.output.fields(_about(found), indent="  ")
    for version in found["versions"]:
        _print_version(session, version)
    return session.status


def _about(model: Document) -> list[tuple[str, str]]:
    return [
        ("kind", model["kind"] or model["type"] or ""),
        ("creator", model["creator"] or ""),
        ("tags", ", ".join(model["tags"])),
        ("adult", "yes" if model["nsfw"] else ""),
        ("licence", ", ".join(allowed(**model["licence"]))),
        ("page", model["url"] or ""),
    ]


def _print_version(session: Session, version: Document) -> None:
    session.output.line()
    session.output.line(f"@{version['id']}  {plain(version['name'] or '')}")
    session.output.fields(
        [
            ("base", version["base_model"] or ""),
            ("published", version["published"] or ""),
            ("trigger words", ", ".join(version["trained_words"])),
            ("air", version["air"] or ""),
        ],
        indent="  ",
    )
    for file in version["files"]:
        kept = "" if file["asset"] is None else f"have it: #{file['asset']}"
        words = (file["type"], file["format"], file["precision"], kept)
        about = ", ".join(word for word in words if word)
        session.output.line(f"  {plain(file['name'])}  {size(file['bytes'])}  {plain(about)}")
        hashes = [(name, digest or "") for name, digest in file["hashes"].items()]
        session.output.fields(hashes, indent="    ")
