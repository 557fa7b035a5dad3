"""`<stem>.swarm.json` of SwarmUI: the keys of ModelSpec, each with its prefix.

Keys: `Stability-AI/ModelSpec` `README.md`.
"""

from __future__ import annotations

from converters.modelspec import SUFFIXES, architecture_of
from registry.document import Fields, is_hash
from registry.sidecars.known import Known, Written
from registry.sidecars.markup import plain_text
from registry.sidecars.record import Origin, Sidecar

OWNER = "swarm"
_PREFIX = "modelspec."
_PREDICTIONS = {"epsilon": "epsilon", "v": "v"}


def read(fields: Fields) -> Sidecar:
    """What the user typed into the program, or it took over from the model's header."""
    author = fields.text(f"{_PREFIX}author")
    words = fields.text(f"{_PREFIX}trigger_phrase")
    tags = fields.text(f"{_PREFIX}tags") or ""
    return Sidecar(
        path=fields.path,
        owner=OWNER,
        name=fields.text(f"{_PREFIX}title"),
        description=plain_text(fields.text(f"{_PREFIX}description")),
        trigger_words=(words,) if words else (),
        base=fields.text(f"{_PREFIX}architecture"),
        prediction=_PREDICTIONS.get(fields.text(f"{_PREFIX}prediction_type") or ""),
        tags=tuple(dict.fromkeys(tag.strip() for tag in tags.split(",") if tag.strip())),
        notes=fields.text(f"{_PREFIX}usage_hint"),
        source=Origin("modelspec", author=author) if author else None,
        claimed_hashes=_hashes(fields),
    )


def _hashes(fields: Fields) -> dict[str, str]:
    """ModelSpec's SHA-256 begins with 0x."""
    digest = (fields.text(f"{_PREFIX}hash_sha256") or "").lower().removeprefix("0x")
    return {"sha256": digest} if is_hash("sha256", digest) else {}


def write(known: Known) -> Written:
    """The keys of ModelSpec 1.0.1 that are known."""
    said = {
        "title": known.title,
        "architecture": _architecture(known),
        "description": known.description,
        "author": known.source.author if known.source else None,
        "trigger_phrase": ", ".join(known.trigger_words) or None,
        "usage_hint": known.notes,
        "tags": ", ".join(known.tags) or None,
        "prediction_type": _PREDICTIONS.get(known.prediction),
        "hash_sha256": f"0x{known.hashes['sha256']}" if "sha256" in known.hashes else None,
    }
    values = {f"{_PREFIX}{name}": value for name, value in said.items()}
    return Written(values, {f"{_PREFIX}date": known.added})


def _architecture(known: Known) -> str | None:
    """The id of a family and kind; None where ModelSpec has none, or it would be a guess."""
    found = architecture_of(known.base, prediction=known.prediction)
    suffix = SUFFIXES.get(known.kind)
    return None if found is None or suffix is None else found.name + suffix
