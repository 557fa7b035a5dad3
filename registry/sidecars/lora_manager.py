"""`<stem>.metadata.json` of ComfyUI-Lora-Manager.

Fields: `willmiao/ComfyUI-Lora-Manager` `py/utils/models.py`. Its SHA-256 is its own reading of the
file, `civitai` the site's answer for the version.
"""

from __future__ import annotations

from dataclasses import replace

from registry.sidecars import civitai
from registry.sidecars.document import Fields
from registry.sidecars.record import Sidecar

OWNER = "lora-manager"
_FAVOURITE = "favorite"


def read(fields: Fields) -> Sidecar:
    """What the program keeps; where the site says something too, the user's own words win.

    A favourite is shown as the tag `favorite`.
    """
    told = civitai.version(OWNER, fields.inside("civitai"))
    tags = (*fields.words("tags"), *((_FAVOURITE,) if fields.flag(_FAVOURITE) else ()))
    return replace(
        told,
        name=fields.text("model_name") or told.name,
        description=civitai.paragraphs(fields.text("modelDescription"), told.description),
        trigger_words=fields.words("trainedWords") or told.trigger_words,
        base=fields.text("base_model") or told.base,
        tags=tags or told.tags,
        notes=fields.text("notes"),
        claimed_hashes={**told.claimed_hashes, **fields.hashes()},
    )
