"""What a service of models is asked, and its answers as cards: inert text and what can be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.errors import AssetmgrError
from tui.bridge import Work
from tui.sections import Section, text
from tui.text import plain, size

if TYPE_CHECKING:
    from assetmgr.operations.peek import Peek

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
    `sha256` what the file will have.
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


def failed(name: str, error: str) -> Card:
    """Something of which only a failure is known."""
    rows = (("", text(error, "$error")),)
    return Card(plain(name), "", "", None, "", None, (Section(plain(name), rows),), None)


def peeked(seen: Peek) -> str:
    """What looking into a file told, in a line. Raises AssetmgrError where it is no model."""
    inspection = seen.inspection
    if inspection.failure is not None and inspection.model is None:
        raise AssetmgrError(inspection.failure.error, path=str(inspection.path))
    identity = inspection.identity
    assert identity is not None  # what was opened is identified
    safety = inspection.safety.verdict.value if inspection.safety else "unknown"
    kind = ", ".join([str(identity.kind), *identity.algorithm])
    return f"{kind}, {identity.base}, {safety}; {size(seen.received)} read"
