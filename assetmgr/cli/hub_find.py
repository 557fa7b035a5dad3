"""`assetmgr hub search`, `hub info` and `hub updates`."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any

import click

from assetmgr.cli.options import AT_LEAST_ONE, COUNT, Session, common_options
from assetmgr.operations.hub import find as hub_find
from assetmgr.operations.hub import updates as hub_updates
from assetmgr.operations.hub.address import parse_named
from assetmgr.operations.hub.find import HubFound, HubInfo, HubInfoFile, HubSearch
from assetmgr.operations.hub.updates import CURRENT, GONE, NEWER, HubUpdate
from assetmgr.sources.hub.models import SORTS
from assetmgr.sources.hub.tags import BASES, KINDS
from assetmgr.text import plain, size
from assetmgr.workspace import Workspace

_WIDTH = 78
_SHOWN_OF_COMMIT = 12


@click.command(epilog="Example: assetmgr hub search 'line art' --kind lora --base sdxl")
@click.argument("text", metavar="[QUERY]", default="")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Only repositories of this kind.")
@click.option("--base", type=click.Choice(BASES), metavar="BASE", help="Only for this family.")
@click.option("--author", help="Only of this user or organisation.")
@click.option("--licence", "--license", help="The Hub's name of one, such as apache-2.0.")
@click.option("--sort", type=click.Choice(list(SORTS)), help="By default as the Hub does.")
@click.option("--limit", type=AT_LEAST_ONE, default=20, help="At most so many; 20.")
@click.option("--offset", type=COUNT, default=0, help="Leave out the first so many.")
@common_options
@click.pass_obj
def search(session: Session, /, **wanted: Any) -> int:
    """Search repositories by the words in their names.

    The Hub knows kinds and bases only by the tags that authors write: what is not tagged is not
    found, and where tags and file names do not tell, the answer is `unknown`.
    """
    request = HubSearch(**wanted)
    with Workspace.open() as workspace, session.progress() as progress:
        found, following = hub_find.search_page(workspace, request, progress)
    if session.as_json:
        models = [one.to_json() for one in found]
        session.output.document({"models": models, "next_offset": following, "errors": []})
        return session.status
    for one in found:
        session.output.line(plain(one.model.repo))
        session.output.line(f"  {plain('  '.join(_in_short(one)))}")
    session.output.line(f"{len(found)} found")
    if following is not None:
        session.output.line(f"more: --offset {following}")
    return session.status


def _in_short(found: HubFound) -> Iterator[str]:
    model = found.model
    yield from (found.kind, found.base)
    yield model.licence or "no licence told"
    if model.downloads is not None:
        yield f"{model.downloads:,} downloads"
    if model.modified:
        yield model.modified[:10]
    if model.gated:
        yield "gated"
    if found.assets:
        yield "have: " + " ".join(f"#{number}" for number in found.assets)


@click.command(epilog="Example: assetmgr hub info ORG/REPO")
@click.argument("repo", metavar="REPO[@REVISION]")
@common_options
@click.pass_obj
def info(session: Session, repo: str) -> int:
    """Show files, hashes, licence and card of a repository, and which files are here already."""
    named = parse_named(repo)
    with Workspace.open() as workspace, session.progress() as progress:
        found = hub_find.info(workspace, named.repo, named.revision, progress)
    if session.as_json:
        session.output.document({**found.to_json(), "errors": []})
        return session.status
    session.output.line(plain(found.found.model.repo))
    session.output.fields(_about(found), indent="  ")
    for line in _wrapped(found.summary or ""):
        session.output.line(line)
    session.output.line(f"\n{len(found.files)} files, {size(found.nbytes)}")
    for one in found.files:
        session.output.line(_file_line(one))
    return session.status


def _about(found: HubInfo) -> list[tuple[str, str]]:
    judged, model = found.found, found.found.model
    counts = (
        f"{n:,} {w}" for n, w in ((model.downloads, "downloads"), (model.likes, "likes")) if n
    )
    return [
        ("kind", judged.kind),
        ("base", judged.base),
        ("made from", ", ".join(model.base_models)),
        ("licence", model.licence or ""),
        ("access", f"gated: accept its conditions at {model.url}" if model.gated else ""),
        ("private", "yes" if model.private else ""),
        ("trigger words", ", ".join(found.trigger_words)),
        ("revision", (model.commit or "")[:_SHOWN_OF_COMMIT]),
        ("updated", (model.modified or "")[:10]),
        ("used", ", ".join(counts)),
        ("page", model.url),
    ]


def _wrapped(text: str) -> Iterator[str]:
    """A text of the network in lines for a terminal, after an empty one."""
    for number, line in enumerate(text.splitlines() if text else ()):
        if not number:
            yield ""
        yield from textwrap.wrap(plain(line), _WIDTH, initial_indent="  ", subsequent_indent="  ")


def _file_line(one: HubInfoFile) -> str:
    known = "" if one.known is None else f"  have it: #{one.known.id}"
    return f"  {size(one.file.size):>9}  {plain(one.file.name)}{known}"


@click.command(epilog="Example: assetmgr hub updates")
@click.argument("assets", nargs=-1, metavar="[ASSET]...")
@common_options
@click.pass_obj
def updates(session: Session, assets: tuple[str, ...]) -> int:
    """Say what has changed on the Hub since it was downloaded.

    Without ASSET everything that came from there, also what lies in huggingface_hub's cache. A file
    is compared with the one of its name on the repository's main branch.
    """
    with Workspace.open() as workspace, session.progress() as progress:
        compared = session.succeeded(hub_updates.updates(workspace, assets, progress))
    if session.as_json:
        documents = [one.to_json() for one in compared]
        session.output.document({"updates": documents, "errors": session.errors()})
        return session.status
    for one in compared:
        if one.state != CURRENT:
            session.output.line(_change(one))
    states = Counter(one.state for one in compared)
    if compared:
        session.output.line(", ".join(f"{n} {state}" for state, n in states.items()))
    elif not session.failures:
        session.output.line("nothing here is known to come from there")
    return session.status


def _change(one: HubUpdate) -> str:
    name, file = plain(one.asset.name), plain(f"{one.source.repo} {one.source.file}")
    told = {
        NEWER: f"newer since {one.model.modified[:10]}" if one.model.modified else "newer",
        GONE: "not there any more",
    }.get(one.state, "cannot be compared")
    here = f", here as #{one.replacement}" if one.replacement is not None else ""
    return f"#{one.asset.id} {name}: {told}{here}\n  {file}"
