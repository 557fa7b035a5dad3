"""What a file beside a model says of it, in one form for all the programs that write such files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Origin:
    """The page a model is said to come from; numbers and names are those of the service."""

    service: str
    model_id: str | None = None
    version_id: str | None = None
    file_id: str | None = None
    author: str | None = None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What one file beside a model says; all of it is hearsay, nothing was compared with the model.

    `owner` is the program or extension whose file this is. `base` is in the owner's words
    ("SD 1.5"), `prediction` is `v` or `epsilon`, `weight` the strength that is recommended,
    `rating` the 0..5 of a site's users. `claimed_hashes` are lower-case hex by the names of the
    library's hashes. `preview` is the path of a picture. `licence` says in words what is allowed,
    `problems` what could not be read.
    """

    path: str
    owner: str
    name: str | None = None
    description: str | None = None
    trigger_words: tuple[str, ...] = ()
    negative: str | None = None
    weight: float | None = None
    base: str | None = None
    prediction: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    rating: float | None = None
    source: Origin | None = None
    claimed_hashes: Mapping[str, str] = field(default_factory=dict)
    preview: str | None = None
    licence: str | None = None
    problems: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """What the words of a query are looked for in."""
        told = (self.name, self.description, self.notes, self.base)
        return *(text for text in told if text), *self.trigger_words, *self.tags

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Sidecar:
        """The sidecar that `to_json` wrote down."""
        source = document["source"]
        lists = {name: tuple(document[name]) for name in ("trigger_words", "tags", "problems")}
        if source is not None:
            source = Origin(**{**source, "urls": tuple(source["urls"])})
        return cls(**{**document, **lists, "source": source})
