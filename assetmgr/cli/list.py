"""`assetmgr list`. It imports as little as it can: people and scripts call it all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from assetmgr.cli import completion
from assetmgr.cli.failures import warn
from assetmgr.cli.options import (
    COUNT,
    WORDS_MAY_BEGIN_WITH_MINUS,
    Session,
    common_options,
    refuse_options,
)
from assetmgr.operations.describe import asset_json
from assetmgr.text import size
from assetmgr.workspace import Workspace

if TYPE_CHECKING:
    from registry.list_records import AssetRow

_SORTS = ("name", "size", "added", "updated", "kind", "base", "rating", "verdict", "id")
"""The words of `registry.query.order`, which imports SQLAlchemy."""


@click.command(
    "list",
    epilog="Example: assetmgr list kind:lora base:sd-1 -tag:wip --sort -added",
    context_settings=WORDS_MAY_BEGIN_WITH_MINUS,
)
@click.argument("query", nargs=-1, type=click.UNPROCESSED, shell_complete=completion.query)
@click.option("--sort", default="name", metavar="KEY", help=f"{', '.join(_SORTS)}; -KEY descends.")
@click.option("--limit", type=COUNT, help="At most so many.")
@click.option("--offset", type=COUNT, default=0, help="Leave out the first.")
@common_options
@click.pass_obj
def list_(
    session: Session, query: tuple[str, ...], sort: str, limit: int | None, offset: int
) -> int:
    """List the assets that match a query.

    Words match names of files, tags, notes, trigger words, metadata, sidecars. Filters: kind: base:
    tag: hash: algorithm: size:>1gb verdict: path: is:duplicate, is:missing, is:offline,
    is:unsafe, is:contradicted. A minus negates, quotes make phrases.
    """
    refuse_options(query)
    text = " ".join(query)
    with Workspace.open() as workspace:
        page = None if session.as_json else workspace.first_page(text, sort, limit, offset)
        if page is None:
            page = workspace.library.search(text, sort=sort, limit=limit, offset=offset)
        if session.as_json:
            assets = workspace.library.assets(text, sort=sort, limit=limit, offset=offset)
            documents = [asset_json(asset) for asset in assets]
            session.output.document({"total": page.total, "assets": documents, "errors": []})
            return session.status
        if not page.total and not session.quiet:
            from assetmgr.cli.no_matches import reasons

            for reason in reasons(workspace.library, text):
                warn(f"hint: {reason}")
    heading = ("id", "name", "kind", "base", "size", "tags", "safety", "verdict")
    if page.rows:
        session.output.table(heading, [_row(row) for row in page.rows])
    session.output.line(f"{len(page.rows)} of {page.total}")
    return session.status


def _row(row: AssetRow) -> tuple[str, ...]:
    kind = " ".join([row.kind, *(word for word in row.algorithm if word != row.kind)])
    absent = "" if row.state == "present" else f" ({row.state})"
    return (
        f"#{row.id}",
        row.name + absent,
        kind,
        row.base,
        size(row.bytes),
        " ".join(row.tags),
        row.safety,
        row.verdict or "-",
    )
