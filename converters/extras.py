"""The plain values beside the tensors of a file, wherever its container keeps them.

Pickled files hold them as they are. Files that were converted to safetensors keep them as one JSON
object in the metadata, because that format knows only texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from converters.statedict import Plain, StateDict

METADATA_KEY = "assetmgr.extras"
"""Metadata key of the JSON object."""


def file_extras(sd: StateDict) -> Mapping[str, Plain]:
    """The values by dotted path; those of the pickle win over those of the metadata."""
    return {**_from_metadata(sd.metadata.get(METADATA_KEY, "")), **sd.extras}


def extras_as_metadata(extras: Mapping[str, Plain]) -> dict[str, str]:
    """The metadata entry that keeps these values; empty when there are none.

    Bytes have no JSON form and are left out.
    """
    kept = {name: value for name, value in extras.items() if not isinstance(value, bytes)}
    if not kept:
        return {}
    return {METADATA_KEY: json.dumps(kept, sort_keys=True, default=lambda _: None)}


def _from_metadata(text: str) -> dict[str, Plain]:
    try:
        value: Plain = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
