"""`<stem>.civitai.info`: the site's answer for a version, kept by Civitai Helper and others."""

from __future__ import annotations

from registry.sidecars import civitai
from registry.sidecars.document import Fields
from registry.sidecars.record import Sidecar

OWNER = "civitai-info"


def read(fields: Fields) -> Sidecar:
    """What the answer says; the stub of a model that was not found says nothing."""
    return civitai.version(OWNER, fields)
