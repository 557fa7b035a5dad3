"""Adapters of every algorithm that PEFT has, as the folders that PEFT loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.adapters import adapter, close
from hypothesis import given
from hypothesis import strategies as st

from converters.adapters import Module, family_of, load_adapter
from converters.adapters.dora import MAGNITUDES, decompose
from converters.adapters.opening import open_adapter
from converters.adapters.peft_algorithms import factorization
from converters.adapters.peft_spelling import in_peft, peft_notes
from converters.adapters.places import Place, place_of
from converters.adapters.spelling import respelled
from converters.bases import Base
from converters.errors import UnsupportedFile
from converters.statedict import StateDict
from converters.writers.peft_folder import WEIGHTS_FILE, read_peft_folder, write_peft_folder

Shapes = Mapping[str, tuple[int, ...]]

LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_k"
CONVOLUTION = "lora_unet_mid_block_resnets_0_conv1"
TEXT = "lora_te_text_model_encoder_layers_0_self_attn_k_proj"
OUT, IN = 12, 8
LAYERS: dict[str, Any] = {
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k": torch.nn.Linear(IN, OUT, False),
    "unet.mid_block.resnets.0.conv1": torch.nn.Conv2d(IN, OUT, 3),
    "text_encoder.text_model.encoder.layers.0.self_attn.k_proj": torch.nn.Linear(IN, OUT),
}
"""The layers that the adapters change, in the networks of diffusers."""

_LORA: Shapes = {"lora_up.weight": (OUT, 2), "lora_down.weight": (2, IN), "alpha": ()}
_CONV_LORA: Shapes = {
    "lora_up.weight": (OUT, 3, 1, 1),
    "lora_down.weight": (3, IN, 3, 3),
    "alpha": (),
}
_LOHA: Shapes = {
    f"hada_w{half}_{part}": shape
    for half in (1, 2)
    for part, shape in (("a", (OUT, 2)), ("b", (2, IN)))
}
CASES: dict[str, dict[str, Shapes]] = {
    "lora": {LINEAR: _LORA, CONVOLUTION: _CONV_LORA, TEXT: _LORA},
    "dora": {
        LINEAR: {**_LORA, "dora_scale": (OUT, 1)},
        CONVOLUTION: {**_CONV_LORA, "dora_scale": (OUT, 1, 1, 1)},
        TEXT: {**_LORA, "dora_scale": (OUT, 1)},
    },
    "loha": {
        LINEAR: {**_LOHA, "alpha": ()},
        CONVOLUTION: {**_LOHA, "hada_w1_b": (2, 9 * IN), "hada_w2_b": (2, 9 * IN)},
        TEXT: _LOHA,
    },
    "loha with cores": {
        CONVOLUTION: {
            f"hada_{part}{half}{end}": shape
            for half in (1, 2)
            for part, end, shape in (
                *(("w", "_a", (2, OUT)), ("w", "_b", (2, IN)), ("t", "", (2, 2, 3, 3))),
            )
        },
        LINEAR: _LOHA,
    },
    "lokr": {
        LINEAR: {"lokr_w1": (3, 2), "lokr_w2_a": (4, 1), "lokr_w2_b": (1, 4), "alpha": ()},
        CONVOLUTION: {"lokr_w1": (3, 2), "lokr_w2_a": (4, 1), "lokr_w2_b": (1, 36)},
        TEXT: {"lokr_w1": (3, 2), "lokr_w2": (4, 4), "alpha": ()},
    },
    "lokr with a core": {
        CONVOLUTION: {
            "lokr_w1_a": (3, 1),
            "lokr_w1_b": (1, 2),
            "alpha": (),
            "lokr_t2": (1, 1, 3, 3),
            "lokr_w2_a": (1, 4),
            "lokr_w2_b": (1, 4),
        },
        LINEAR: {
            "lokr_w1_a": (3, 1),
            "lokr_w1_b": (1, 2),
            "lokr_w2_a": (4, 1),
            "lokr_w2_b": (1, 4),
        },
    },
    "lokr of whole matrices": {
        LINEAR: {"lokr_w1": (4, 4), "lokr_w2": (3, 2), "alpha": ()},
        CONVOLUTION: {"lokr_w1": (4, 4), "lokr_w2": (3, 2, 3, 3)},
    },
    "ia3": {
        LINEAR: {"weight": (OUT,), "on_input": ()},
        CONVOLUTION: {"weight": (1, IN, 1, 1), "on_input": ()},
        TEXT: {"weight": (IN,), "on_input": ()},
    },
}


def of(modules: Mapping[str, Shapes]) -> StateDict:
    """An adapter of these parts; what of (IA)³ is as long as the inputs is of the inputs."""
    generator = torch.Generator().manual_seed(1)
    tensors = {
        f"{name}.{part}": torch.rand(shape, generator=generator) + 0.5
        for name, parts in modules.items()
        for part, shape in parts.items()
    }
    for name, parts in modules.items():
        if "on_input" in parts:
            of_inputs = tensors[f"{name}.weight"].numel() == IN
            tensors[f"{name}.on_input"] = torch.tensor(int(of_inputs))
    return adapter(tensors)


def network(component: str) -> torch.nn.Module:
    """A network with the layers of a component at their paths, and nothing else."""
    whole = torch.nn.Module()
    for path, layer in LAYERS.items():
        name, _, inner = path.partition(".")
        if name != component:
            continue
        parent = whole
        *outer, last = inner.split(".")
        for step in outer:
            if not hasattr(parent, step):
                parent.add_module(step, torch.nn.Module())
            parent = getattr(parent, step)
        copy = type(layer)(*_arguments(layer))
        copy.load_state_dict(layer.state_dict())
        parent.add_module(last, copy)
    return whole


def _arguments(layer: Any) -> tuple[Any, ...]:
    if isinstance(layer, torch.nn.Linear):
        return layer.in_features, layer.out_features, layer.bias is not None
    return layer.in_channels, layer.out_channels, layer.kernel_size


def _changed(module: Module, weight: torch.Tensor) -> torch.Tensor:
    changed, family = weight.detach().clone(), family_of(module)
    if MAGNITUDES & module.tensors.keys():
        decompose(family, module, changed, 1.0)
    else:
        family.apply(module, changed, 1.0)
    return changed


def expected(change: StateDict) -> dict[Place, torch.Tensor]:
    """The weights of all layers with the change, by what the layers' names mean."""
    weights = {place_of(path): layer.weight for path, layer in LAYERS.items()}
    return {
        (place := place_of(module.name)): _changed(module, weights[place])
        for module in load_adapter(change).modules
    }


def folders(target: Path) -> dict[str, Path]:
    """The folder of each component that was written."""
    found = {file.parent.name: file.parent for file in target.glob(f"*/{WEIGHTS_FILE}")}
    return found or {"unet": target}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_peft_merges_every_folder_to_the_same_weights(name: str, tmp_path: Path) -> None:
    from peft import PeftModel

    change = of(CASES[name])
    write_peft_folder(in_peft(change, Base.SD1), tmp_path / "fox")
    wanted, seen = expected(change), set()
    for component, folder in folders(tmp_path / "fox").items():
        loaded = PeftModel.from_pretrained(network(component), folder)
        merged = loaded.merge_and_unload().state_dict()
        for key, theirs in merged.items():
            place = place_of(f"{component}.{key.removesuffix('.weight')}")
            if key.endswith(".bias"):
                path = f"{component}.{key.removesuffix('.bias')}"
                assert torch.equal(theirs, LAYERS[path].bias)
            elif place in wanted:
                close(theirs, wanted[place])
                seen.add(place)
    assert seen == wanted.keys()


@pytest.mark.parametrize("name", CASES)
def test_what_was_written_for_peft_changes_the_same_when_it_is_read(
    name: str, tmp_path: Path
) -> None:
    change = of(CASES[name])
    target = tmp_path / "fox"
    write_peft_folder(in_peft(change, Base.SD1), target)
    wanted, seen = expected(change), set()
    for folder in folders(target).values():
        read = open_adapter(folder / WEIGHTS_FILE)
        for form in (read, respelled(read, Base.SD1, "kohya")):
            for place, weight in expected(form).items():
                close(weight, wanted[place])
                seen.add(place)
    assert seen == wanted.keys()


def test_the_folder_of_a_second_encoder_says_whose_the_names_are(tmp_path: Path) -> None:
    text = {TEXT.replace("lora_te_", f"lora_te{n}_"): _LORA for n in (1, 2)}
    state = in_peft(of(text), Base.SDXL)
    written = write_peft_folder(state, tmp_path / "fox")
    assert (written.hashes, written.tensors) == (None, len(state))
    assert read_peft_folder(tmp_path / "fox").keys() == state.keys()
    for folder, encoder in (("text_encoder", "te1"), ("text_encoder_2", "te2")):
        read = open_adapter(tmp_path / "fox" / folder / WEIGHTS_FILE)
        assert {place_of(module.name)[0] for module in load_adapter(read).modules} == {encoder}
        assert json.loads((tmp_path / "fox" / folder / "adapter_config.json").read_text())["r"] == 2
    assert "key_mapping" in peft_notes(state)[0]
    assert peft_notes(in_peft(of({LINEAR: _LORA}), Base.SD1)) == ()


REFUSED: dict[str, tuple[dict[str, Shapes], str]] = {
    "two algorithms": ({LINEAR: _LORA, CONVOLUTION: _LOHA}, "has one algorithm"),
    "magnitudes of some": (
        {LINEAR: {**_LORA, "dora_scale": (OUT, 1)}, CONVOLUTION: _CONV_LORA},
        "conv1 has no magnitudes",
    ),
    "magnitudes of others": ({LINEAR: {**_LOHA, "dora_scale": (OUT, 1)}}, r"loha .*DoRA"),
    "rotations": ({LINEAR: {"oft_blocks": (3, 4, 4)}}, "turns the inputs"),
    "differences": ({LINEAR: {"diff": (OUT, IN)}}, "is full: PEFT has no form"),
    "biases": ({TEXT: {"diff_b": (OUT,)}}, "changes a bias"),
    "cores of some": (
        {
            CONVOLUTION: CASES["loha"][CONVOLUTION],
            CONVOLUTION.replace("conv1", "conv2"): CASES["loha with cores"][CONVOLUTION],
        },
        "has no core",
    ),
    "factors of a large rank": (
        {LINEAR: {"lokr_w1": (3, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4)}},
        "other factors for rank 2",
    ),
    "sizes of several kinds": (
        {
            LINEAR: {"lokr_w1": (3, 2), "lokr_w2": (4, 4)},
            CONVOLUTION: {"lokr_w1": (4, 4), "lokr_w2": (3, 2, 3, 3)},
        },
        "no one number splits",
    ),
    "outputs that have biases": ({TEXT: {"weight": (OUT,), "on_input": ()}}, "scale the bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_peft_would_not_compute_so_is_refused_naming_the_module(name: str) -> None:
    modules, why = REFUSED[name]
    with pytest.raises(UnsupportedFile, match=why) as caught:
        in_peft(of(modules), Base.SD1)
    assert any(module in str(caught.value) for module in modules)


def test_a_scale_that_only_peft_can_state_goes_into_the_factor() -> None:
    name = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn1.to_k"
    parts = {"lokr_w1": torch.ones(3, 2), "lokr_w2": torch.ones(4, 4)}
    told = {"adapter_config.json": '{"r": 4, "alpha": 2}'}
    source = adapter({f"{name}.{part}": tensor for part, tensor in parts.items()}, told)
    back = respelled(source, Base.SD1, "kohya")
    (there,), (here,) = expected(source).values(), expected(back).values()
    close(here, there)
    before = LAYERS["unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_k"].weight.detach()
    close(there - before, torch.full((OUT, IN), 0.5))


@given(st.integers(1, 2000), st.sampled_from([-1, 2, 4, 8, 16, 100]))
def test_sizes_are_split_as_peft_splits_them(size: int, factor: int) -> None:
    from peft.tuners.lokr.layer import factorization as theirs

    assert factorization(size, factor) == theirs(size, factor)
