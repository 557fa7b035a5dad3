"""Every algorithm in every kind of layer of every family, under every name that it can have.

What is merged must be what the algorithm does to the layer's weight alone, which other files hold
against the programs that train it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from helpers.adapters import adapter, applied, close
from helpers.pipelines import FAMILIES, narrow_checkpoint

from converters.adapters import load_adapter
from converters.adapters.peft_spelling import PEFT, in_peft, networks_of
from converters.adapters.places import Place
from converters.adapters.spelling import SPELLINGS, respelled
from converters.adapters.targets import Target, module_targets
from converters.bases import Base
from converters.compute import value
from converters.errors import UnsupportedFile
from converters.layouts.pipeline import to_components
from converters.merge.changes import ChangeLog, merged_tensor
from converters.merge.fitting import fit_modules
from converters.statedict import StateDict

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
RANK, BLOCK = 2, 4
ALPHA: Shapes = {"alpha": ()}


def _ones(kernel: Shape) -> Shape:
    return (1,) * len(kernel)


def _lora(out: int, inner: int, *kernel: int) -> Shapes:
    ones = _ones(kernel)
    return {"lora_up.weight": (out, RANK, *ones), "lora_down.weight": (RANK, inner, *kernel)}


def _dora(out: int, inner: int, *kernel: int) -> Shapes:
    return {**_lora(out, inner, *kernel), "dora_scale": (out, 1, *_ones(kernel))}


def _locon(out: int, inner: int, *kernel: int) -> Shapes:
    return {**_lora(out, inner, *_ones(kernel)), "lora_mid.weight": (RANK, RANK, *kernel)}


def _loha(out: int, inner: int, *kernel: int) -> Shapes:
    flat = inner * math.prod(kernel)
    return {
        f"hada_w{n}_{part}": shape
        for n in (1, 2)
        for part, shape in (("a", (out, RANK)), ("b", (RANK, flat)))
    }


def _loha_of_kernels(out: int, inner: int, *kernel: int) -> Shapes:
    parts = {"w{}_a": (RANK, out), "w{}_b": (RANK, inner), "t{}": (RANK, RANK, *kernel)}
    return {f"hada_{part.format(n)}": shape for n in (1, 2) for part, shape in parts.items()}


def _lokr(out: int, inner: int, *kernel: int) -> Shapes:
    return {"lokr_w1": (4, 2), "lokr_w2": (out // 4, inner // 2, *kernel)}


def _lokr_of_products(out: int, inner: int, *kernel: int) -> Shapes:
    flat = inner // 2 * math.prod(kernel)
    return {
        "lokr_w1_a": (4, RANK),
        "lokr_w1_b": (RANK, 2),
        "lokr_w2_a": (out // 4, RANK),
        "lokr_w2_b": (RANK, flat),
    }


def _full(*shape: int) -> Shapes:
    return {"diff": shape}


def _glora(out: int, inner: int, *kernel: int) -> Shapes:
    ones = _ones(kernel)
    return {
        "a1.weight": (inner, RANK, *ones),
        "a2.weight": (RANK, inner, *ones),
        "b1.weight": (out, RANK, *ones),
        "b2.weight": (RANK, inner, *kernel),
    }


def _ia3(out: int, *_: int) -> Shapes:
    return {"weight": (out,), "on_input": ()}


def _oft(out: int, *_: int) -> Shapes:
    return {"oft_blocks": (out // BLOCK, BLOCK, BLOCK)}


def _boft(out: int, *_: int) -> Shapes:
    return {"oft_blocks": (2, out // BLOCK, BLOCK, BLOCK)}


def _peft_oft(_: int, inner: int, *kernel: int) -> Shapes:
    blocks = inner * math.prod(kernel) // BLOCK
    return {"oft_R.weight": (blocks, BLOCK * (BLOCK - 1) // 2)}


ALGORITHMS: dict[str, Callable[..., Shapes]] = {
    "lora": _lora,
    "lora with alpha": lambda *shape: _lora(*shape) | ALPHA,
    "dora": _dora,
    "locon": _locon,
    "loha": _loha,
    "loha of kernels": _loha_of_kernels,
    "lokr": _lokr,
    "lokr of products": lambda *shape: _lokr_of_products(*shape) | ALPHA,
    "full": _full,
    "glora": _glora,
    "ia3": _ia3,
    "oft": _oft,
    "boft": _boft,
    "peft oft": _peft_oft,
}
OF_KERNELS = {"locon", "loha of kernels"}
"""Algorithms for convolutions alone."""

PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
LAYERS = (
    *("attn1.to_q", "attn2.to_k", "ff.net.0.proj", "proj_in", "resnets.0.conv1"),
    *("self_attn.v_proj", "mlp.fc1"),
)
"""A layer of every kind: linear, of one pixel or nine, square and not, in all networks."""


@functools.cache
def model(family: str) -> tuple[StateDict, Mapping[Place, Target], dict[str, torch.Tensor]]:
    """A checkpoint, where its layers lie, and the weights by their modules' names for kohya."""
    state = narrow_checkpoint(family)
    return state, module_targets(state), dict(_weights(state, family))


def _weights(state: StateDict, family: str) -> Iterator[tuple[str, torch.Tensor]]:
    parts = to_components(state, Base(family)).parts
    only = "text_encoder_2" not in parts or "text_encoder" not in parts
    for component, prefix in PREFIXES.items():
        names = parts.get(component, {})
        for layer in LAYERS:
            name = next((n for n in names if n.endswith(f"{layer}.weight")), None)
            if name is not None:
                head = "lora_te_" if only and component != "unet" else prefix
                path = name.removesuffix(".weight").replace(".", "_")
                yield head + path, value(parts[component][name])


def _tensors(algorithm: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    kernel = weight.shape[2:]
    if algorithm in OF_KERNELS and math.prod(kernel) == 1:
        return {}
    shapes = ALGORITHMS[algorithm](*weight.shape)
    tensors = {part: torch.randn(shape) * 0.1 for part, shape in shapes.items()}
    if "on_input" in tensors:
        tensors["on_input"] = torch.tensor(0.0)
    return tensors


def _merged(family: str, file: StateDict) -> dict[str, torch.Tensor]:
    """Every weight with the adapter, in the layout and the names of the model."""
    state, targets, _ = model(family)
    fit = fit_modules(load_adapter(file), targets)
    assert (fit.misfit, dict(fit.unused)) == (None, {})
    return {
        placed.tensor: value(
            merged_tensor(
                state[placed.tensor],
                placed.tensor,
                [placed.change(0, "a", 0.75)],
                ChangeLog(),
            )
        )
        for placed in fit.placed
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_becomes_what_the_algorithm_makes_of_it(family: str, algorithm: str) -> None:
    torch.manual_seed(0)
    state, _, weights = model(family)
    modules = {name: found for name, w in weights.items() if (found := _tensors(algorithm, w))}
    assert modules
    named = {
        f"{m}.{part}": tensor for m, parts in modules.items() for part, tensor in parts.items()
    }
    merged = _merged(family, adapter(named))
    for module, tensors in modules.items():
        alone = _merged(family, adapter({f"{module}.{p}": t for p, t in tensors.items()}))
        ((name, changed),) = ((n, t) for n, t in alone.items() if n in merged)
        expected = applied(tensors, weights[module], 0.75, name=module)
        rows = _rows(state, name, changed, expected)
        close(rows, expected)
    for layout in (*SPELLINGS, PEFT):
        _require_same(family, adapter(named), layout, merged)


def _rows(
    state: StateDict, name: str, changed: torch.Tensor, expected: torch.Tensor
) -> torch.Tensor:
    """The changed rows of a tensor, in the shape of the layer's own weight."""
    if changed.numel() == expected.numel():
        return changed.reshape(expected.shape)
    touched = (changed != value(state[name])).flatten(1).any(1).nonzero().flatten()
    third = expected.shape[0]
    first = int(touched[0]) // third * third
    return changed[first : first + third]


def _require_same(
    family: str, file: StateDict, layout: str, expected: Mapping[str, torch.Tensor]
) -> None:
    """Under other names the adapter does the same, or is refused by the name of a module."""
    there = _renamed(file, Base(family), layout)
    if isinstance(there, str):
        assert "module lora_" in there
        return
    found = {name: tensor for one in there for name, tensor in _merged(family, one).items()}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        close(found[name], tensor)


def _renamed(file: StateDict, base: Base, layout: str) -> list[StateDict] | str:
    """The adapter under other names (PEFT has a file for each network), or why that cannot be."""
    try:
        if layout == PEFT:
            return [_told(name, one) for name, one in networks_of(in_peft(file, base)).items()]
        return [respelled(file, base, layout)]
    except UnsupportedFile as refused:
        return refused.cause


def _told(network: str, file: StateDict) -> StateDict:
    """PEFT's names do not say which text encoder they are for; its folder does."""
    if network != "text_encoder_2":
        return file
    return file.rename(lambda name: name.replace("base_model.model", network))
