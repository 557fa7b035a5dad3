"""`<stem>.civitai.info`: the site's answer for a version, kept by Civitai Helper and others."""

from __future__ import annotations

from registry.document import Fields
from registry.sidecars import civitai
from registry.sidecars.known import Known, Written
from registry.sidecars.record import Sidecar

OWNER = "civitai-info"


def read(fields: Fields) -> Sidecar:
    """What the answer says; the stub of a model that was not found says nothing."""
    return civitai.version(OWNER, fields)


def write(known: Known) -> Written:
    """An answer of the site as far as it is known; what it said itself of the files stays."""
    source = known.source
    file = {
        "name": known.file_name,
        "type": "Model",
        "primary": True,
        "sizeKB": known.bytes / 1024,
        "hashes": civitai.shown_hashes(known, "SHA256", "CRC32", "BLAKE3", "AutoV1"),
    }
    values = {
        "id": civitai.number(source.version_id) if source else None,
        "modelId": civitai.number(source.model_id) if source else None,
        "description": known.description,
        "trainedWords": list(known.trigger_words) or None,
        "baseModel": known.site_base,
        "downloadUrl": source.urls[0] if source and source.urls else None,
        "model": {"name": known.title, "type": known.site_type, "tags": list(known.tags)},
    }
    defaults = {"name": "", "trainedWords": [], "baseModel": "Other", "files": [file]}
    return Written(values, {**defaults, "images": []})
