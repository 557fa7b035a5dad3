"""`<stem>.metadata.json` of ComfyUI-Lora-Manager.

Fields: `willmiao/ComfyUI-Lora-Manager` `py/utils/models.py`. Its SHA-256 is its own reading of the
file, `civitai` the site's answer for the version.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import PurePath

from registry.document import Fields
from registry.sidecars import civitai
from registry.sidecars.known import Known, Written
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
        weight=_strength(fields),
        claimed_hashes={**told.claimed_hashes, **fields.hashes()},
    )


def _strength(fields: Fields) -> float | None:
    """The user's strength for a LoRA, in the text of an object that the program keeps it in."""
    try:
        tips: object = json.loads(fields.text("usage_tips") or "{}")
    except (ValueError, RecursionError):
        return None
    return Fields(fields.path, tips, []).number("strength") if isinstance(tips, dict) else None


def write(known: Known) -> Written:
    """What the program keeps of a file it has hashed; its own choices are left as they are."""
    source = known.source
    site = {
        "id": civitai.number(source.version_id) if source else None,
        "modelId": civitai.number(source.model_id) if source else None,
        "trainedWords": list(known.trigger_words),
        "baseModel": known.site_base,
    }
    values = {
        "file_name": PurePath(known.path).stem,
        "model_name": known.title,
        "file_path": PurePath(known.path).as_posix(),
        "size": known.bytes,
        "modified": known.modified,
        "sha256": known.hashes.get("sha256"),
        "base_model": known.site_base,
        "notes": known.notes,
        "tags": [tag for tag in known.tags if tag != _FAVOURITE] or None,
        "modelDescription": known.description,
        "trainedWords": list(known.trigger_words) or None,
        "favorite": True if _FAVOURITE in known.tags else None,
        "civitai": {name: value for name, value in site.items() if value} if source else None,
    }
    defaults = {
        "base_model": "Unknown",
        "preview_url": PurePath(known.preview).as_posix() if known.preview else "",
        "preview_nsfw_level": 0,
        "notes": "",
        "from_civitai": source is not None,
        "civitai": {},
        "tags": [],
        "modelDescription": "",
        "favorite": False,
        "exclude": False,
        "hash_status": "completed",
    }
    return Written(values, defaults | ({"usage_tips": "{}"} if known.kind == "lora" else {}))
