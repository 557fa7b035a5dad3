"""`<file name>.rgthree-info.json` of rgthree-comfy.

Fields: `rgthree/rgthree-comfy` `py/server/utils_info.py`. Its trained words hold every training tag
with its count; words of the site or of the user are marked as such.
"""

from __future__ import annotations

from registry.document import Fields, clean
from registry.sidecars import civitai
from registry.sidecars.record import Sidecar

OWNER = "rgthree"


def read(fields: Fields) -> Sidecar:
    """What the program shows in its dialog about a LoRA."""
    site = civitai.version(OWNER, fields.inside("raw").inside("civitai"))
    model_id, version_id = (
        (None, None) if site.source is None else (site.source.model_id, site.source.version_id)
    )
    return Sidecar(
        path=fields.path,
        owner=OWNER,
        name=fields.text("name") or site.name,
        description=site.description,
        trigger_words=_words(fields),
        base=fields.text("baseModel") or site.base,
        tags=site.tags,
        rating=site.rating,
        source=civitai.origin(model_id, version_id, urls=fields.words("links")),
        claimed_hashes={**site.claimed_hashes, **fields.hashes()},
    )


def _words(fields: Fields) -> tuple[str, ...]:
    told = fields.objects("trainedWords")
    words = [word.text("word") for word in told if word.flag("civitai") or word.flag("user")]
    return tuple(dict.fromkeys(clean(word) for word in words if word))
