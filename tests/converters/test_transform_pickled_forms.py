"""Models in pickles as A1111 keeps them: its own reading code, condensed, takes them apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers.sd1 import random_fill, state_dict

from converters.compute import value
from converters.containers import open_model
from converters.identify import Kind, identify
from converters.statedict import StateDict
from converters.transform.layout import relayout
from converters.transform.metadata import provenance
from converters.transform.pickled_forms import pickled_form
from converters.writers.safetensors import write_safetensors
from converters.writers.torch_zip import write_torch_zip

ATTRIBUTES: dict[str, Any] = {
    "step": 500,
    "name": "style",
    "layer_structure": [1, 2, 1],
    "activation_func": "relu",
    "is_layer_norm": False,
    "weight_initialization": "Normal",
    "use_dropout": False,
    "sd_checkpoint": "abcd1234",
    "sd_checkpoint_name": "base",
    "activate_output": True,
    "last_layer_dropout": False,
    "dropout_structure": [0, 0.05, 0],
    "optional_info": None,
}


def _written(state: StateDict, target: Path) -> Any:
    form = pickled_form(state, identify(state).kind)
    write_torch_zip(form.tree, target)
    again = open_model(target).state_dict
    assert {n: bytes(t.read()) for n, t in again.items()} == {
        n: bytes(t.read()) for n, t in form.seen.items()
    }
    return torch.load(target, weights_only=True)


def _networks() -> dict[int, tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]]:
    def side() -> dict[str, torch.Tensor]:
        up, down = torch.nn.Linear(768, 1536), torch.nn.Linear(1536, 768)
        named = {"linear.0": up, "linear.2": down}
        return {
            f"{name}.{part}": tensor.detach()
            for name, layer in named.items()
            for part, tensor in layer.named_parameters()
        }

    return {768: (side(), side())}


def test_a_hypernetwork_goes_through_safetensors_and_back_without_loss(tmp_path: Path) -> None:
    original = {**_networks(), **ATTRIBUTES}
    first, middle = tmp_path / "a.pt", tmp_path / "b.safetensors"
    torch.save(original, first)
    state = open_model(first).state_dict
    identity = identify(state)
    assert identity.kind is Kind.HYPERNETWORK
    texts = provenance(state, identity, title="x", operation="convert", parents=[])
    write_safetensors(state.with_metadata(texts), middle)
    again = _written(open_model(middle).state_dict, tmp_path / "c.pt")
    networks = again.pop(768)
    assert again == ATTRIBUTES
    assert isinstance(networks, tuple)
    for ours, theirs in zip(networks, original[768], strict=True):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_embedding_goes_through_safetensors_and_back_without_loss(tmp_path: Path) -> None:
    vectors = torch.randn(3, 768)
    original = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": vectors},
        "name": "cat",
        "step": 4000,
        "sd_checkpoint": "abcd1234",
        "sd_checkpoint_name": None,
    }
    first, middle = tmp_path / "a.pt", tmp_path / "b.safetensors"
    torch.save(original, first)
    state = open_model(first).state_dict
    texts = provenance(state, identify(state), title="x", operation="convert", parents=[])
    write_safetensors(state.with_metadata(texts), middle)
    again = _written(open_model(middle).state_dict, tmp_path / "c.pt")
    assert torch.equal(again["string_to_param"].pop("*"), vectors)
    original["string_to_param"] = {}
    assert again == original


def test_an_embedding_of_another_program_gets_the_form_of_a1111(tmp_path: Path) -> None:
    state = state_dict({"<cat>": (768,)}, fill=random_fill())
    again = _written(relayout(state, identify(state), "a1111"), tmp_path / "c.pt")
    assert again["name"] == "<cat>"
    assert again["string_to_token"] == {"*": 265}
    assert torch.equal(again["string_to_param"]["*"], value(state["<cat>"]).reshape(1, 768))


def test_other_forms_of_an_embedding_stay_as_they_are(tmp_path: Path) -> None:
    named = state_dict({"<cat>": (768,)}, fill=random_fill())
    assert torch.equal(_written(named, tmp_path / "a.bin")["<cat>"], value(named["<cat>"]))
    bare = state_dict({"tensor": (2, 768)}, fill=random_fill())
    form = pickled_form(bare, identify(bare).kind)
    assert form.tree is bare["tensor"]


def test_vectors_for_two_encoders_keep_their_names(tmp_path: Path) -> None:
    state = state_dict({"clip_l": (2, 768), "clip_g": (2, 1280)}, fill=random_fill())
    assert _written(state, tmp_path / "c.pt").keys() == {"clip_l", "clip_g"}


def test_other_models_lie_under_state_dict_with_their_counters_beside(tmp_path: Path) -> None:
    state = state_dict({"weight": (2, 3)}, fill=random_fill())
    extras = {"global_step": 7, "epoch": 1, "a.b": 2, "raw": b"x", "lists": [[b"x"]]}
    again = _written(StateDict(state.tensors, {}, extras), tmp_path / "c.ckpt")
    assert again.pop("state_dict").keys() == {"weight"}
    assert again == {"global_step": 7, "epoch": 1}
