"""A LoRA of one network as PEFT keeps it: `base_model.model.<path of diffusers>`, and a LoraConfig.

PEFT has one folder for each network, so that the names do not say which network it is. Sources:
huggingface/peft `utils/save_and_load.py`, `tuners/lora/config.py`.
"""

from __future__ import annotations

import json

from converters.adapters.peft_config import CONFIG_FILE, DIFFUSERS_CONFIG, Json
from converters.adapters.spelling import DIFFUSERS, respelled
from converters.bases import Base
from converters.errors import UnsupportedFile
from converters.statedict import StateDict

PEFT = "peft"
_HEAD = "base_model.model."
_DENOISERS = ("unet", "transformer")
_KIND: dict[str, Json] = {
    "peft_type": "LORA",
    "task_type": None,
    "base_model_name_or_path": None,
    "inference_mode": True,
}


def in_peft(state: StateDict, base: Base) -> StateDict:
    """The adapter under PEFT's names, with its configuration as the metadata `CONFIG_FILE`.

    Raises UnsupportedFile for several networks and for what PEFT has no form for, otherwise as
    `respelled`.
    """
    named = respelled(state, base, DIFFUSERS)
    network = _network(named)
    fields: dict[str, Json] = json.loads(named.metadata[DIFFUSERS_CONFIG])
    own = {name.removeprefix(f"{network}."): value for name, value in fields.items()}
    if own["use_dora"]:
        raise UnsupportedFile(
            "has magnitudes (DoRA), which are not written for PEFT", hint="use --layout diffusers"
        )
    texts = {key: text for key, text in named.metadata.items() if key != DIFFUSERS_CONFIG}
    texts[CONFIG_FILE] = json.dumps(_KIND | own)
    renamed = named.rename(lambda name: _HEAD + name.removeprefix(f"{network}."))
    return renamed.with_metadata(texts)


def _network(named: StateDict) -> str:
    """The one network that an adapter in the names of diffusers is for."""
    networks = sorted({name.partition(".")[0] for name in named})
    if len(networks) > 1:
        raise UnsupportedFile(
            f"changes {' and '.join(networks)}; PEFT keeps each network in a folder of its own",
            hint="take one with --components unet",
        )
    if networks[0] not in _DENOISERS:
        raise UnsupportedFile(
            f"changes {networks[0]}, whose paths differ between releases of transformers",
            hint="use --layout diffusers",
        )
    return networks[0]
