"""What a service of models is asked, and its answers as cards: inert text and what can be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.errors import AssetmgrError
from converters.pickles.verdict import Verdict
from tui.bridge import Work
from tui.sections import Section, text
from tui.text import plain, size

if TYPE_CHECKING:
    from assetmgr.operations.peek import Peek
    from registry.downloads.records import QueuedDownload

FIRST = 60
"""How many answers are asked for at first, and how many more each time."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question to a service, in the words of the contract; "" leaves it open."""

    service: str = "civitai"
    text: str = ""
    kind: str = ""
    base: str = ""
    sort: str = ""
    most: int = FIRST


@dataclass(frozen=True, slots=True)
class Card:
    """A file that a service has, or a repository of files: what a list shows of it, inert text.

    `asset` is the number of the asset that already is it. `download` queues it; `peek`, where the
    service can be looked into, tells what it is. `opens` is the question for what is in it, and
    `sha256` what the file will have. `beside` are the other files that `download` queues with it.
    """

    name: str
    kind: str
    base: str
    nbytes: int | None
    licence: str
    asset: int | None
    sections: tuple[Section, ...]
    download: Work | None
    peek: Work | None = None
    opens: str | None = None
    sha256: str | None = None
    beside: int = 0


def failed(name: str, error: str) -> Card:
    """Something of which only a failure is known."""
    rows = (("", text(error, "$error")),)
    return Card(plain(name), "", "", None, "", None, (Section(plain(name), rows),), None)


def peeked(seen: Peek) -> str:
    """What looking into a file told, in a line. Raises AssetmgrError where it is no model.

    What would do harm is an answer: nothing more need be known of it.
    """
    inspection = seen.inspection
    if inspection.failure is not None and inspection.model is None:
        if inspection.safety is not None and inspection.safety.verdict is Verdict.DANGEROUS:
            return f"dangerous: {inspection.failure.error}; {size(seen.received)} read"
        raise AssetmgrError(inspection.failure.error, path=str(inspection.path))
    identity = inspection.identity
    assert identity is not None  # what was opened is identified
    safety = inspection.safety.verdict.value if inspection.safety else "unknown"
    kind = ", ".join([str(identity.kind), *identity.algorithm])
    return f"{kind}, {identity.base}, {safety}; {size(seen.received)} read"


def queued(downloads: Sequence[QueuedDownload]) -> str:
    """What was put into the queue, in a line."""
    if len(downloads) == 1:
        return f"download {downloads[0].id} is queued"
    return f"downloads {downloads[0].id} to {downloads[-1].id} are queued"
