"""`<stem>.hanakura.json` of Hanakura: where it downloaded a file from.

Fields: `licyk/Hanakura` `hanakura/core/downloads/manager.py`. Its SHA-256 is that of the bytes
that came; its numbers are those of Civitai only where `source` says so.
"""

from __future__ import annotations

from registry.document import Fields
from registry.sidecars import civitai
from registry.sidecars.record import Origin, Sidecar

OWNER = "hanakura"


def read(fields: Fields) -> Sidecar:
    """What the program knew of a download."""
    return Sidecar(
        path=fields.path,
        owner=OWNER,
        name=civitai.title(fields.text("name"), fields.text("version_name")),
        trigger_words=fields.words("trained_words"),
        base=fields.text("base_model_label") or fields.text("base_model"),
        source=_origin(fields),
        claimed_hashes=fields.hashes(),
    )


def _origin(fields: Fields) -> Origin | None:
    service = fields.text("source")
    urls = tuple(url for name in ("page_url", "url") if (url := fields.text(name)))
    model, version = fields.label("model_id"), fields.label("version_id")
    if service is None or not (model or version):
        return Origin("url", urls=urls) if urls else None
    author = fields.text("creator")
    return Origin(service, model, version, fields.label("file_id"), author, urls)
