"""`<stem>.txt` or `<stem>.description.txt`: a plain description, from A1111's early days."""

from __future__ import annotations

from registry.document import clean, decode
from registry.sidecars.markup import plain_text
from registry.sidecars.record import Sidecar

OWNER = "description"


def read(path: str, content: bytes) -> Sidecar | None:
    """The text; None when there is none."""
    text, problems = decode(content)
    description = plain_text(clean(text))
    if not description:
        return None
    return Sidecar(path=path, owner=OWNER, description=description, problems=problems)
