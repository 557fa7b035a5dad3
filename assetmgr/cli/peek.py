"""What `hub peek` and `civitai peek` print."""

from __future__ import annotations

from assetmgr.cli.inspect import print_inspection
from assetmgr.cli.options import Session
from assetmgr.operations.peek import Peek
from assetmgr.text import plain, size


def report_peek(session: Session, found: Peek, *, tensors: bool) -> int:
    """The document or the page; gives the exit code."""
    if found.inspection.failure:
        session.fail(found.inspection.failure)
    if session.as_json:
        session.output.document(found.to_json(tensors=tensors))
        return session.status
    print_inspection(session, found.inspection, tensors=tensors)
    if found.known:
        session.output.line(f"have it: #{found.known.id} {plain(found.known.name)}")
    for made in found.made_of_it:
        session.output.line(f"have it by {made.operation}: #{made.asset} {plain(made.name)}")
    requests = "1 request" if found.requests == 1 else f"{found.requests} requests"
    cost = f"{size(found.received)} in {requests}"
    session.output.line(f"{cost}, of {size(found.inspection.nbytes)}")
    return session.status
