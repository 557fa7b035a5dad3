"""`assetmgr civitai enrich` and `civitai updates`: what the site says of models that are here."""

from __future__ import annotations

from collections import Counter

import click

from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.operations.civitai.enrich import Enriched, EnrichRequest, enrich, matching
from assetmgr.operations.civitai.updates import CURRENT, GONE, CivitaiUpdate, NewerVersion, updates
from assetmgr.operations.failures import Failure
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace

_FIELDS: dict[str, object] = {
    "asset": None,
    "name": None,
    "match": None,
    "files": [],
    "problems": [],
}


@click.command("enrich", epilog="Example: assetmgr civitai enrich --query kind:lora")
@click.argument("assets", nargs=-1, metavar="[ASSET]...")
@click.option("--query", help="All assets that it finds.")
@click.option("--no-pictures", is_flag=True, help="Fetch no preview pictures.")
@click.option("--nsfw", is_flag=True, help="Also pictures that the site calls adult.")
@click.option("--overwrite", is_flag=True, help="Add to NAME.civitai.info where there is one.")
@click.option("--dry-run", is_flag=True, help="Print the plan and do nothing.")
@common_options
@click.pass_obj
def enrich_(
    session: Session,
    assets: tuple[str, ...],
    query: str | None,
    no_pictures: bool,
    nsfw: bool,
    overwrite: bool,
    dry_run: bool,
) -> int:
    """Keep beside models what Civitai says of them: name, words, base, licence, a picture.

    Files are found by their hashes; what was converted here by those of its origin. Written are
    NAME.civitai.info and NAME.preview.png, where there is none. Tags, notes and ratings stay.
    """
    if not assets and query is None:
        raise click.UsageError("Name assets, or a --query.", click.get_current_context())
    with Workspace.open() as workspace, session.progress() as progress:
        found = matching(workspace, query) if query is not None else ()
        request = EnrichRequest(
            (*assets, *found), not no_pictures, nsfw, overwrite=overwrite, dry_run=dry_run
        )
        documents = [_enriched(session, one) for one in enrich(workspace, request, progress)]
    if session.as_json:
        session.output.document(documents)
    elif not documents:
        session.output.line("nothing matches the query")
    return session.status


def _enriched(session: Session, one: Enriched | Failure) -> dict[str, object]:
    if isinstance(one, Failure):
        session.fail(one)
        return failed_item(one, _FIELDS)
    for problem in one.problems:
        session.warn(f"{one.asset.name}: {problem}")
    if not session.as_json:
        _print_enriched(session, one)
    return one.to_json()


def _print_enriched(session: Session, one: Enriched) -> None:
    name = f"#{one.asset.id} {plain(one.asset.name)}"
    if one.match is None:
        session.output.line(f"{name}: unknown there")
        return
    version = one.match.version
    title = " - ".join(filter(None, (version.model_name, version.name)))
    session.output.line(f"{name}: {plain(title)}")
    words = ", ".join(version.trained_words)
    fields = [("base", version.base or ""), ("trigger words", words)]
    session.output.fields(fields, indent="  ")
    for file in one.files:
        session.output.line(f"  {file.state or 'to write'}  {plain(str(file.path))}")


@click.command("updates", epilog="Example: assetmgr civitai updates")
@click.argument("assets", nargs=-1, metavar="[ASSET]...")
@common_options
@click.pass_obj
def updates_(session: Session, assets: tuple[str, ...]) -> int:
    """Say which models have newer versions on Civitai.

    Without ASSET everything that was downloaded from there or has a file beside it that says so.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        compared = session.succeeded(updates(workspace, assets, progress))
    if session.as_json:
        documents = [one.to_json() for one in compared]
        session.output.document({"updates": documents, "errors": session.errors()})
        return session.status
    for one in compared:
        if one.state != CURRENT:
            _print_update(session, one)
    states = Counter(one.state for one in compared)
    if compared:
        session.output.line(", ".join(f"{n} {state}" for state, n in states.items()))
    elif not session.failures:
        session.output.line("nothing here is known to come from there")
    return session.status


def _print_update(session: Session, one: CivitaiUpdate) -> None:
    told = "not there any more" if one.state == GONE else plain(one.model.name if one.model else "")
    session.output.line(f"#{one.asset.id} {plain(one.asset.name)}: {told}")
    for newer in one.newer:
        session.output.line(f"  {plain('  '.join(_in_short(newer)))}")


def _in_short(newer: NewerVersion) -> list[str]:
    version = newer.version
    told = [f"@{version.id}", version.name or "", (version.published or "")[:10]]
    told += ["" if newer.same_base else f"for {version.base or 'another base'}"]
    told += [size(newer.file.size) if newer.file else ""]
    told += ["" if newer.asset is None else f"have it: #{newer.asset}"]
    return [text for text in told if text]
