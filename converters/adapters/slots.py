"""The slots of block weights that a denoiser's layers belong to, in the A1111 extension's words.

A UNet has IN00..IN11, M00 and OUT00..OUT11 after its
`input_blocks`, `middle_block` and `output_blocks`, where SDXL ends at 08; Flux has IN,
D00..D18, S00..S37 and OUT. What comes before the first block counts to the first slot (as kohya has
it), what comes after the last to the last. Source: hako-mikan/sd-webui-lora-block-weight
`scripts/lora_block_weight.py`, kohya-ss/sd-scripts `networks/lora.py`.
"""

from __future__ import annotations

import re

LAST = "OUT"
"""The slot of the layers behind the last block; a UNet's last OUTnn."""

_UNET = (
    (re.compile(r"input_blocks\.(\d+)\."), "IN"),
    (re.compile(r"output_blocks\.(\d+)\."), "OUT"),
    (re.compile(r"double_blocks\.(\d+)\."), "D"),
    (re.compile(r"single_blocks\.(\d+)\."), "S"),
)
_FLUX_INPUTS = re.compile(r"(?:img|txt|time|vector|guidance)_in\b")


def slot_of(path: str) -> str | None:
    """The slot of a denoiser's layer by its path in a single file."""
    for pattern, word in _UNET:
        if match := pattern.match(path):
            return f"{word}{int(match[1]):02}"
    if path.startswith("middle_block."):
        return "M00"
    if path.startswith(("time_embed.", "label_emb.")):
        return "IN00"
    if _FLUX_INPUTS.match(path):
        return "IN"
    return LAST if path.startswith(("out.", "final_layer.")) else None
