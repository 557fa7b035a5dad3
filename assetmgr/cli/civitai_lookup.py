"""`assetmgr civitai lookup`."""

from __future__ import annotations

import click

from assetmgr.cli import completion
from assetmgr.cli.options import Session, common_options, failed_item
from assetmgr.operations.civitai.lookup import Lookup, Match, lookup
from assetmgr.operations.failures import Failure
from assetmgr.text import plain
from assetmgr.workspace import Workspace

_FIELDS: dict[str, object] = {"asset": None, "name": None, "sha256": None, "matches": []}


@click.command("lookup", epilog="Example: assetmgr civitai lookup '#12' model.safetensors")
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
        return failed_item(found, _FIELDS)
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
