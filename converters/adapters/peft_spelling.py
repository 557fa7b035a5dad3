"""Adapters as PEFT keeps them: `base_model.model.<path of diffusers>`, and a configuration.

PEFT has one folder for each network, so that the names do not say which network it is. An adapter
of several networks is one folder of such folders here: their names have the network in front.
Sources: huggingface/peft `utils/save_and_load.py`; `peft_algorithms` for what is in a folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from converters.adapters.module import Module
from converters.adapters.peft_algorithms import one_algorithm
from converters.adapters.peft_config import CONFIG_FILE, DIFFUSERS_CONFIG, Json
from converters.adapters.spelling import modules_of_diffusers
from converters.bases import Base
from converters.errors import UnsupportedFile
from converters.statedict import LazyTensor, StateDict

PEFT = "peft"
_HEAD = "base_model.model."
_COMMON: dict[str, Json] = {
    "task_type": None,
    "base_model_name_or_path": None,
    "inference_mode": True,
}
_FIRST_ENCODER = "text_encoder"


def in_peft(state: StateDict, base: Base) -> StateDict:
    """The adapter under PEFT's names, with its configuration as the metadata `CONFIG_FILE`.

    For several networks that is an object with the configuration of each, and names begin with the
    network. Raises UnsupportedFile for what PEFT has no form for, otherwise as `respelled`.
    """
    networks: dict[str, dict[str, Module]] = {}
    for name, module in modules_of_diffusers(state, base):
        if module.part != "weight":
            raise UnsupportedFile(
                f"module {module.name} changes a bias, for which PEFT has no algorithm alone"
            )
        network, _, path = name.partition(".")
        networks.setdefault(network, {})[path] = module
    tensors: dict[str, LazyTensor] = {}
    configs: dict[str, Json] = {}
    for network, modules in networks.items():
        algorithm = one_algorithm(modules.values())
        head = f"{network}.{_HEAD}" if len(networks) > 1 else _HEAD
        for path, module in modules.items():
            for ending, tensor in algorithm.tensors(module, path).items():
                tensors[f"{head}{path}.{ending}"] = tensor
        configs[network] = {"peft_type": algorithm.word, **_COMMON, **algorithm.fields(modules)}
    told = configs if len(configs) > 1 else next(iter(configs.values()), {})
    texts = {key: text for key, text in state.metadata.items() if key != DIFFUSERS_CONFIG}
    return StateDict(tensors, {**texts, CONFIG_FILE: json.dumps(told)})


def networks_of(state: StateDict) -> Mapping[str, StateDict]:
    """What `in_peft` gives as the adapter of each network; under "" where there is only one."""
    told: dict[str, Json] = json.loads(state.metadata[CONFIG_FILE])
    if "peft_type" in told:
        return {"": state}
    return {network: _own(state, network, config) for network, config in told.items()}


def _own(state: StateDict, network: str, config: Json) -> StateDict:
    own = state.select(lambda name: name.startswith(f"{network}."))
    named = own.rename(lambda name: name.removeprefix(f"{network}."))
    return named.with_metadata({**state.metadata, CONFIG_FILE: json.dumps(config)})


def joined(networks: Mapping[str, StateDict]) -> StateDict:
    """The tensors of adapters of several networks, each under the name of its folder."""
    return StateDict(
        {
            f"{network}.{name}" if network else name: tensor
            for network, state in networks.items()
            for name, tensor in state.items()
        }
    )


def peft_notes(state: StateDict) -> tuple[str, ...]:
    """What to know of loading what `in_peft` gives."""
    heads = (f"{_FIRST_ENCODER}.{_HEAD}text_model.", f"{_HEAD}text_model.")
    if not any(name.startswith(heads) for name in state):
        return ()
    return (_NEWER_ENCODERS,)


_NEWER_ENCODERS = (
    "paths of text encoders begin with text_model, as in transformers before 5.6; CLIPTextModel"
    ' of later ones needs key_mapping={"text_model.": ""} in from_pretrained'
)
