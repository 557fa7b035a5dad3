"""`<stem>.json`: what users type into A1111's and Forge's cards.

Keys: `lllyasviel/stable-diffusion-webui-forge` `modules/ui_extra_networks_user_metadata.py` and
`extensions-builtin/Lora/ui_edit_user_metadata.py`.
"""

from __future__ import annotations

from registry.document import Fields
from registry.sidecars.known import Known, Written
from registry.sidecars.markup import plain_text
from registry.sidecars.record import Sidecar

OWNER = "a1111"
_KEYS = (
    "description",
    "notes",
    "sd version",
    "activation text",
    "preferred weight",
    "negative text",
)

_VERSIONS = {"sd-1": "SD1", "sd-2": "SD2", "sdxl": "SDXL"}
"""The families that its editor has words for; every other one is "Unknown" there."""


def read(fields: Fields) -> Sidecar | None:
    """What the user wrote; None for another program's JSON file of the same name."""
    if not any(name in fields.values for name in _KEYS):
        return None
    base = fields.text("sd version")
    words = fields.text("activation text")
    return Sidecar(
        path=fields.path,
        owner=OWNER,
        description=plain_text(fields.text("description")),
        trigger_words=(words,) if words else (),
        negative=fields.text("negative text"),
        weight=fields.number("preferred weight") or None,  # 0 means that nothing was chosen
        base=None if base == "Unknown" else base,
        notes=fields.text("notes"),
    )


def write(known: Known) -> Written:
    """What its editors show: a text of words, a weight of which 0 means the default."""
    values = {
        "description": known.description,
        "sd version": _VERSIONS.get(known.base),
        "activation text": ", ".join(known.trigger_words) or None,
        "preferred weight": known.weight,
        "negative text": known.negative,
        "notes": known.notes,
    }
    defaults = {"description": "", "sd version": "Unknown", "activation text": "", "notes": ""}
    return Written(values, {**defaults, "preferred weight": 0})
