"""The transformers of SD3 and Flux under diffusers' names, and their configurations."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import mmdit
from safetensors.torch import save_file

from converters import compute
from converters.bases import Base
from converters.containers import open_model
from converters.errors import CorruptFile
from converters.layouts.mmdit import mmdit_config, mmdit_to_diffusers
from converters.layouts.t5 import EMBEDDED, SHARED, t5_config, t5_to_transformers
from converters.statedict import StateDict

MODELS = {
    "sd3 medium": (Base.SD3, mmdit.sd3),
    "sd3.5 large": (Base.SD3, lambda: mmdit.sd3(normed=True)),
    "sd3.5 medium": (Base.SD3, lambda: mmdit.sd3(dual=(0,), normed=True)),
    "flux dev": (Base.FLUX, lambda: mmdit.flux(guided=True)),
    "flux schnell": (Base.FLUX, lambda: mmdit.flux(guided=False)),
}


def _stored(tensors: mmdit.Tensors, folder: Path) -> StateDict:
    save_file({name: t.clone() for name, t in tensors.items()}, folder / "model.safetensors")
    return open_model(folder / "model.safetensors").state_dict


@pytest.mark.parametrize("model", MODELS)
def test_every_tensor_gets_the_name_and_the_values_it_has_in_diffusers(
    model: str, tmp_path: Path
) -> None:
    network: Any = MODELS[model][1]()
    mapped = mmdit_to_diffusers(_stored(mmdit.original(network), tmp_path))
    state = network.state_dict()
    assert mapped.keys() == state.keys()
    assert all(torch.equal(compute.value(mapped[name]), state[name]) for name in state)


@pytest.mark.parametrize("model", MODELS)
def test_the_shapes_tell_the_arguments_of_diffusers_class(model: str, tmp_path: Path) -> None:
    base, make = MODELS[model]
    network: Any = make()
    config = mmdit_config(base, _stored(network.state_dict(), tmp_path))
    known = inspect.signature(type(network)).parameters
    assert config.keys() <= known.keys()
    with torch.device("meta"):
        built = type(network)(**config)
    assert {n: t.shape for n, t in built.state_dict().items()} == {
        n: t.shape for n, t in network.state_dict().items()
    }
    for field in ("num_attention_heads", "dual_attention_layers", "qk_norm", "axes_dims_rope"):
        if field in config:
            wanted = network.config[field]
            assert config[field] == (list(wanted) if isinstance(wanted, tuple) else wanted)


def test_names_of_diffusers_stay_as_they_are(tmp_path: Path) -> None:
    stored = _stored(mmdit.flux(guided=True).state_dict(), tmp_path)
    assert mmdit_to_diffusers(stored) is stored


def test_a_modulation_that_cannot_be_halved_is_an_error_with_its_name(tmp_path: Path) -> None:
    tensors = mmdit.original(mmdit.flux(guided=False))
    tensors["final_layer.adaLN_modulation.1.bias"] = torch.zeros(3)
    with pytest.raises(CorruptFile, match=r"final_layer.adaLN_modulation.1.bias"):
        mmdit_to_diffusers(_stored(tensors, tmp_path))


def test_a_transformer_without_what_tells_its_sizes_is_an_error_with_the_name() -> None:
    with pytest.raises(CorruptFile, match=r"pos_embed.proj.weight"):
        mmdit_config(Base.SD3, StateDict({}))


@pytest.mark.parametrize("kept", [SHARED, EMBEDDED])
def test_a_t5_encoder_is_complete_with_either_name_of_its_embedding(
    kept: str, tmp_path: Path
) -> None:
    network = mmdit.t5()
    state = network.state_dict()
    other = EMBEDDED if kept == SHARED else SHARED
    stored = _stored({n: t for n, t in state.items() if n != other}, tmp_path)
    mapped = t5_to_transformers(stored)
    assert mapped.keys() == {*state.keys(), EMBEDDED}
    config = t5_config(mapped)
    assert all(getattr(network.config, name) == value for name, value in config.items())
