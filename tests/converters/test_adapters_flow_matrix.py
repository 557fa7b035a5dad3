"""Every algorithm in every layer of SD3 and Flux, in both layouts and under every name.

Small transformers of diffusers are the models; PEFT changes the same networks as an oracle, and
formulas written here in float64 stand for the algorithms that it has no way to compute.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from helpers import mmdit
from helpers.adapters import adapter, close

from converters.adapters import load_adapter
from converters.adapters.peft_config import CONFIG_FILE
from converters.adapters.peft_spelling import in_peft
from converters.adapters.spelling import respelled
from converters.adapters.targets import module_targets
from converters.bases import Base
from converters.compute import value
from converters.errors import UnsupportedFile
from converters.merge.changes import ChangeLog, merged_tensor
from converters.merge.fitting import fit_modules
from converters.statedict import StateDict

Tensors = dict[str, torch.Tensor]
Array = np.ndarray[Any, np.dtype[np.float64]]
FAMILIES = {
    Base.FLUX: lambda: mmdit.flux(guided=True),
    Base.SD3: lambda: mmdit.sd3(dual=(0,)),
}
LAYOUTS = ("kohya", "comfy", "diffusers", "peft")
TYPES = (torch.float32, torch.float16, torch.bfloat16)
STRENGTH = 0.75


@functools.cache
def network(base: Base) -> Any:
    return FAMILIES[base]()


@functools.cache
def single(base: Base) -> StateDict:
    """The model as one file of its authors' names."""
    return adapter(mmdit.original(network(base)))


@functools.cache
def pipeline(base: Base) -> StateDict:
    return adapter({f"transformer.{n}": t for n, t in network(base).state_dict().items()})


def layers(base: Base) -> dict[str, torch.Tensor]:
    """The weight of every layer that is a matrix, by its path in a single file."""
    tensors = mmdit.original(network(base))
    return {
        name.removesuffix(".weight"): tensor.detach()
        for name, tensor in tensors.items()
        if name.endswith(".weight") and tensor.dim() == 2
    }


def merged(model: StateDict, change: StateDict, strength: float = STRENGTH) -> Tensors:
    """The model's tensors with the adapter, all of whose keys have found their layer."""
    fit = fit_modules(load_adapter(change), module_targets(model))
    assert (fit.misfit, dict(fit.unused)) == (None, {})
    names = dict.fromkeys(placed.tensor for placed in fit.placed)
    return {name: value(tensor) for name, tensor in model.items() if name not in names} | {
        name: value(
            merged_tensor(
                model[name],
                name,
                [p.change(0, "a", strength) for p in fit.placed if p.tensor == name],
                ChangeLog(),
            )
        )
        for name in names
    }


def same(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        close(ours[name], tensor)


# -- the formulas ----------------------------------------------------------------------------------

Parts = Mapping[str, Array]
Formula = Callable[[Array, Parts], Array]
Sizes = Callable[[int, int], Mapping[str, tuple[int, ...]]]


def _added(change: Callable[[Parts], Array]) -> Formula:
    return lambda weight, parts: weight + STRENGTH * change(parts)


def _product(parts: Parts) -> Array:
    factor = float(parts["alpha"]) / 2 if "alpha" in parts else 1.0
    return factor * parts["lora_up.weight"] @ parts["lora_down.weight"]


def _hadamard(parts: Parts) -> Array:
    first, second = (parts[f"hada_w{n}_a"] @ parts[f"hada_w{n}_b"] for n in (1, 2))
    return float(parts["alpha"]) / 2 * first * second


def _kronecker(parts: Parts) -> Array:
    if "lokr_w2" in parts:
        return np.kron(parts["lokr_w1"], parts["lokr_w2"])
    second = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
    return float(parts["alpha"]) / 2 * np.kron(parts["lokr_w1"], second)


def _decomposed(weight: Array, parts: Parts) -> Array:
    changed = weight + _product(parts)
    lengths = np.sqrt((changed**2).sum(1, keepdims=True)) + 2.0**-23
    return weight + STRENGTH * (parts["dora_scale"] * changed / lengths - weight)


def _glora(weight: Array, parts: Parts) -> Array:
    a1, a2, b1, b2 = (parts[f"{x}.weight"] for x in ("a1", "a2", "b1", "b2"))
    return weight + STRENGTH * (weight @ a1 @ a2 + b1 @ b2)


def _scaled(weight: Array, parts: Parts) -> Array:
    return weight * (1 + STRENGTH * parts["weight"][:, None])


def _turned(weight: Array, parts: Parts) -> Array:
    made = np.empty_like(weight)
    for number, block in enumerate(parts["oft_blocks"]):
        skew, unit = block - block.T, np.eye(len(block))
        turn = (unit + skew) @ np.linalg.inv(unit - skew)
        rows = slice(number * len(block), (number + 1) * len(block))
        made[rows] = (unit + STRENGTH * (turn - unit)).T @ weight[rows]
    return made


def _lora(out: int, inner: int) -> dict[str, tuple[int, ...]]:
    return {"lora_up.weight": (out, 2), "lora_down.weight": (2, inner)}


ALGORITHMS: dict[str, tuple[Sizes, Formula]] = {
    "lora": (_lora, _added(_product)),
    "lora with alpha": (lambda *s: {**_lora(*s), "alpha": ()}, _added(_product)),
    "dora": (lambda *s: {**_lora(*s), "dora_scale": (s[0], 1)}, _decomposed),
    "loha": (
        lambda out, inner: {
            "alpha": (),
            **{f"hada_w{n}_a": (out, 2) for n in (1, 2)},
            **{f"hada_w{n}_b": (2, inner) for n in (1, 2)},
        },
        _added(_hadamard),
    ),
    "lokr": (
        lambda out, inner: {"lokr_w1": (4, 2), "lokr_w2": (out // 4, inner // 2)},
        _added(_kronecker),
    ),
    "lokr of products": (
        lambda out, inner: {
            "lokr_w1": (4, 2),
            "lokr_w2_a": (out // 4, 2),
            "lokr_w2_b": (2, inner // 2),
            "alpha": (),
        },
        _added(_kronecker),
    ),
    "full": (lambda *shape: {"diff": shape}, _added(lambda parts: parts["diff"])),
    "glora": (
        lambda out, inner: {
            "a1.weight": (inner, 2),
            "a2.weight": (2, inner),
            "b1.weight": (out, 2),
            "b2.weight": (2, inner),
        },
        _glora,
    ),
    "ia3": (lambda out, _: {"weight": (out,), "on_input": ()}, _scaled),
    "oft": (lambda out, _: {"oft_blocks": (out // 4, 4, 4)}, _turned),
}
ADDING = {"lora", "lora with alpha", "loha", "lokr", "lokr of products", "full"}
"""What can be added to a layer's rows wherever they lie."""


def _drawn(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return (torch.randn(shape) * 0.1).to(dtype) if shape else torch.tensor(1.5)


def _modules(
    base: Base, algorithm: str, dtype: torch.dtype
) -> Iterator[tuple[str, Tensors, torch.Tensor]]:
    """The path of every layer, its tensors, and the weight that they should give."""
    sizes, formula = ALGORITHMS[algorithm]
    torch.manual_seed(0)
    for path, weight in layers(base).items():
        tensors = {part: _drawn(shape, dtype) for part, shape in sizes(*weight.shape).items()}
        if "on_input" in tensors:
            tensors["on_input"] = torch.tensor(0)
        parts = {part: tensor.double().numpy() for part, tensor in tensors.items()}
        yield path, tensors, torch.from_numpy(formula(weight.double().numpy(), parts))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("base", FAMILIES)
def test_every_layer_becomes_what_the_formula_says(
    base: Base, algorithm: str, dtype: torch.dtype
) -> None:
    named, expected = {}, {}
    for path, tensors, changed in _modules(base, algorithm, dtype):
        kohya = "lora_unet_" + path.replace(".", "_")
        named |= {f"{kohya}.{part}": tensor for part, tensor in tensors.items()}
        expected[f"{path}.weight"] = changed
    file = adapter(named)
    ours = merged(single(base), file)
    assert expected.keys() <= ours.keys()
    for name, tensor in expected.items():
        close(ours[name], tensor)
    if dtype is torch.float32:
        _require_same_elsewhere(base, file, ours, adds=algorithm in ADDING)


def _require_same_elsewhere(base: Base, file: StateDict, ours: Tensors, *, adds: bool) -> None:
    """In the pipeline, and under other names, the adapter does the same or is refused."""
    if adds:
        there = merged(pipeline(base), file)
        same(_original(there, base), ours)
    for layout in LAYOUTS:
        other = _renamed(file, base, layout)
        if isinstance(other, str):
            assert "module lora_unet_" in other
            continue
        same(merged(single(base), other), ours)
        if adds:
            same(_original(merged(pipeline(base), other), base), ours)


def _renamed(file: StateDict, base: Base, layout: str) -> StateDict | str:
    """The adapter under other names, or why that cannot be."""
    try:
        return in_peft(file, base) if layout == "peft" else respelled(file, base, layout)
    except UnsupportedFile as refused:
        return refused.cause


def _original(tensors: Tensors, base: Base) -> Tensors:
    """A pipeline's transformer under the names of its authors."""
    named = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    assert named.keys() == network(base).state_dict().keys()
    return mmdit.original(_Held(named))


class _Held:
    """Tensors where a network is asked for."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def state_dict(self) -> Tensors:
        return self._tensors


@pytest.mark.parametrize("base", FAMILIES)
def test_biases_are_changed_alike_whether_layers_are_one_or_several(base: Base) -> None:
    torch.manual_seed(0)
    single_file = {
        f"lora_unet_{name.removesuffix('.bias').replace('.', '_')}.diff_b": tensor
        for name, tensor in mmdit.original(network(base)).items()
        if name.endswith(".bias")
    }
    of_diffusers = {
        f"{name.removesuffix('.bias')}.diff_b": value(tensor)
        for name, tensor in pipeline(base).items()
        if name.endswith(".bias")
    }
    for biases in (single_file, of_diffusers):
        file = adapter({key: torch.randn_like(bias) for key, bias in biases.items()})
        one, several = merged(single(base), file), merged(pipeline(base), file)
        same(_original(several, base), one)
    for key, difference in file.items():  # these are the layers of the pipeline themselves
        name = f"{key.removesuffix('.diff_b')}.bias"
        close(several[name], value(pipeline(base)[name]) + STRENGTH * value(difference))


# -- PEFT ------------------------------------------------------------------------------------------

PEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {"r": 2, "lora_alpha": 3}),
    "lora with biases": ("LoraConfig", {"r": 2, "lora_alpha": 3, "lora_bias": True}),
    "rank-stabilised lora": ("LoraConfig", {"r": 2, "lora_alpha": 3, "use_rslora": True}),
    "loha": ("LoHaConfig", {"r": 2, "alpha": 3}),
    "lokr": ("LoKrConfig", {"r": 2, "alpha": 3}),
    "lokr of whole matrices": ("LoKrConfig", {"r": 64, "alpha": 3}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PEFT)
@pytest.mark.parametrize("base", FAMILIES)
def test_peft_changes_every_layer_of_the_network_to_the_same(base: Base, name: str) -> None:
    import peft

    kind, options = PEFT[name]
    fresh = FAMILIES[base]()
    targets = [n for n, layer in fresh.named_modules() if isinstance(layer, torch.nn.Linear)]
    config = getattr(peft, kind)(target_modules=targets, **options)
    model = peft.get_peft_model(fresh, config)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    held = peft.get_peft_model_state_dict(model)
    told = {CONFIG_FILE: json.dumps(config.to_dict(), default=list)}
    file = adapter(held, told)
    changed = model.merge_and_unload()
    same(
        merged(pipeline(base), file, 1.0),
        {f"transformer.{n}": t for n, t in changed.state_dict().items()},
    )
    same(merged(single(base), file, 1.0), mmdit.original(changed))
