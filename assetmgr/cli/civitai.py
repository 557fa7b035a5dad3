"""`assetmgr civitai`: its verbs, of which those that need no library are here."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import click

from assetmgr.cli import completion
from assetmgr.cli.civitai_library import enrich_, updates_
from assetmgr.cli.download_options import (
    Chosen,
    bars,
    download_options,
    print_download,
    warn_of_danger,
    warn_of_shortages,
)
from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.cli.peek import report_peek
from assetmgr.operations import civitai as models
from assetmgr.operations.civitai_download import (
    CivitaiRequest,
    civitai_download,
    queue_civitai_download,
)
from assetmgr.operations.civitai_lookup import Lookup, Match, lookup
from assetmgr.operations.civitai_plan import plan_civitai_download
from assetmgr.operations.failures import Failure
from assetmgr.operations.peek import civitai_peek
from assetmgr.sources.civitai import Search
from assetmgr.sources.civitai_words import BASES, PERIODS, SORTS, TYPES
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace
from registry.sidecars.civitai import allowed

_LOOKUP_FIELDS: dict[str, object] = {"asset": None, "name": None, "sha256": None, "matches": []}

Document = Mapping[str, Any]
"""A document of the operations, of which a page for people is made."""


@click.group(epilog="Example: assetmgr civitai search 'line art' --kind lora")
def civitai() -> None:
    """Find models on Civitai, look files up there, download, enrich, keep up to date."""


for command in (enrich_, updates_):
    civitai.add_command(command)


@civitai.command(epilog="Example: assetmgr civitai search 'line art' --kind lora --base sdxl")
@click.argument("text", metavar="[QUERY]", default="")
@click.option("--kind", type=click.Choice(list(TYPES)), help="Only models of this kind.")
@click.option("--base", metavar="BASE", help=f"{', '.join(BASES)}, or Civitai's own name of one.")
@click.option("--tag", help="Only with this tag.")
@click.option("--creator", help="Only of this user.")
@click.option("--nsfw/--no-nsfw", default=None, help="With or without adult models.")
@click.option("--sort", type=click.Choice(list(SORTS)), help="By default the best match first.")
@click.option("--period", type=click.Choice(list(PERIODS)), help="The time that an order counts.")
@click.option("--limit", type=click.IntRange(1), default=20, help="At most so many; 20.")
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


@civitai.command(epilog="Example: assetmgr civitai info 4384@128713")
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


@civitai.command(epilog="Example: assetmgr civitai peek 128713")
@click.argument("version")
@click.argument("file", required=False)
@click.option("--tensors", is_flag=True, help="List every tensor.")
@common_options
@click.pass_obj
def peek(session: Session, version: str, file: str | None, tensors: bool) -> int:
    """Say what a remote file is, and whether it is safe, without downloading it.

    VERSION and FILE as for `download`. Only the header of a safetensors file or the pickle inside
    of a .ckpt is fetched.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        found = civitai_peek(workspace, version, file, progress)
    return report_peek(session, found, tensors=tensors)


@civitai.command("lookup", epilog="Example: assetmgr civitai lookup '#12' model.safetensors")
@click.argument(
    "assets", nargs=-1, required=True, metavar="ASSET...", shell_complete=completion.asset
)
@common_options
@click.pass_obj
def lookup_(session: Session, assets: tuple[str, ...]) -> int:
    """Find out on Civitai what files are, by their hashes.

    ASSET may also be a hash, as the parameters of a picture name it. What was converted or merged
    here, and is unknown there, is found through what it was made of.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        documents = [_report(session, found) for found in lookup(workspace, assets, progress)]
    if session.as_json:
        session.output.document(documents)
    return session.status


def _report(session: Session, found: Lookup | Failure) -> dict[str, object]:
    if isinstance(found, Failure):
        session.fail(found)
        return failed_item(found, _LOOKUP_FIELDS)
    if not session.as_json:
        name = plain(found.subject.name)
        session.output.line(name if found.matches else f"{name}  unknown there")
        for match in found.matches:
            session.output.line(f"  {plain(_sentence(match))}")
    return found.to_json()


def _sentence(match: Match) -> str:
    version = match.version
    name = " - ".join(filter(None, (version.model_name, version.name)))
    place = f"{version.model_id or ''}@{version.id}"
    words = ", ".join(version.trained_words)
    through = f"through {match.ancestor.name}" if match.ancestor else ""
    facts = (f"{place}  {name}", version.base, words and f"trigger words: {words}", through)
    return "  ".join(fact for fact in (*facts, f"by {match.by}") if fact)


@civitai.command(epilog="Example: assetmgr civitai download 128713 --to ~/models")
@click.argument("version")
@click.argument("file", required=False)
@download_options
@common_options
@click.pass_obj
def download(
    session: Session,
    version: str,
    file: str | None,
    chosen: Chosen,
) -> int:
    """Download a file of a version into the library, verified against the site's SHA-256.

    VERSION is its number, MODEL@VERSION, an AIR or an address; without FILE (a name or number) its
    primary file. It goes to the folder of its kind unless --to names another, and what the site
    says of it goes beside it. It goes through the queue: a transfer that broke off goes on with the
    same command, or `downloads run`.
    """
    request = CivitaiRequest(
        version,
        file,
        chosen.folder,
        chosen.layout,
        chosen.again,
        chosen.priority,
        chosen.rate,
    )
    with Workspace.open() as workspace, bars(session) as progress:
        found = (
            plan_civitai_download(workspace, version, file, progress)
            if chosen.dry_run
            else queue_civitai_download(workspace, request, progress)
            if chosen.later
            else civitai_download(workspace, request, progress, watch=progress.watch)
        )
        if chosen.later:
            warn_of_shortages(session, workspace)
    document = found.to_json()
    warn_of_danger(session, document)
    if session.as_json:
        session.output.document({**document, "errors": []})
        return session.status
    print_download(session, found.file.name, found.file.size, document)
    if found.version.trained_words:
        session.output.line(f"trigger words: {plain(', '.join(found.version.trained_words))}")
    return session.status
