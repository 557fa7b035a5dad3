"""An adapter under the names of another program, with the same bytes.

| layout | module | factors | scale |
|---|---|---|---|
| `kohya` | `lora_unet_`, path with underscores (LDM's in SDXL) | `lora_up`, `lora_down` | `alpha` |
| `lycoris` | `lycoris_`, path of diffusers with underscores | as kohya | `alpha` |
| `comfy` | `diffusion_model.`, LDM's path | as kohya | `alpha` |
| `diffusers` | `unet.`, path of diffusers | `lora_B`, `lora_A` | in the metadata |

Flux and SD3, where one matrix can be several layers, are named by `flow_spelling`.

Sources: kohya-ss/sd-scripts `networks/lora.py`, KohakuBlueleaf/LyCORIS `lycoris/wrapper.py`,
ComfyUI `comfy/lora.py`, huggingface/diffusers `loaders/lora_base.py` (`lora_adapter_metadata`) and
huggingface/peft `tuners/lora/config.py`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from converters.adapters import Adapter, Module, load_adapter
from converters.adapters.dora import SCALE, VECTOR
from converters.adapters.flow_spelling import FLOW_FAMILIES, renamed
from converters.adapters.ia3_forms import PEFT_ROLE, ia3_of_lycoris
from converters.adapters.module import rank_of
from converters.adapters.paths import FAMILIES, TEXT_PROJECTION, Layer, Layers, layers_of
from converters.adapters.peft_config import CONFIG_FILE, DIFFUSERS_CONFIG
from converters.adapters.peft_scales import lora_config
from converters.adapters.places import DENOISER, place_of
from converters.bases import Base
from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.embedding_forms import is_bundled
from converters.errors import MergeProblem, UnsupportedFile
from converters.statedict import Extent, LazyTensor, StateDict

if TYPE_CHECKING:
    from converters.compute import Tensor

DIFFUSERS = "diffusers"
_TURNS = "PEFT turns the inputs of a layer, others its outputs"
_PEFT_ONLY = {"oft_R": _TURNS, "boft_R": _TURNS}
"""Roles of algorithms that PEFT computes otherwise than LyCORIS of the same name does, and how."""

_KOHYA_ENDINGS = {
    "up": "lora_up.weight",
    "down": "lora_down.weight",
    "mid": "lora_mid.weight",
    **{role: f"{role}.weight" for role in ("a1", "a2", "b1", "b2", "bm")},
    "boft_blocks": "oft_blocks",
}
_PEFT_ENDINGS = {
    "up": "lora_B.weight",
    "down": "lora_A.weight",
    VECTOR: "lora_magnitude_vector",
}


@dataclass(frozen=True, slots=True)
class _Spelling:
    """How a program names modules (None where it has no name) and the parts of one."""

    module: Callable[[Base, Layer], str | None]
    endings: Mapping[str, str]


def respelled(state: StateDict, base: Base, layout: str) -> StateDict:
    """An adapter for a family under the names of a layout (a key of SPELLINGS).

    Raises UnsupportedFile naming the first key or module that cannot be named so, MergeProblem and
    WrongFamily for a broken adapter. Reads only its alphas.
    """
    modules = _modules(state, base, layout)
    for module in modules:
        _require_form(module, layout)
    named = _named(modules, base, layout)
    if layout == DIFFUSERS:
        return _in_diffusers(named, state)
    spelling = SPELLINGS[layout]
    tensors: dict[str, LazyTensor] = dict(state.select(is_bundled))
    for name, module in named:
        for role, tensor in _with_alpha(module).items():
            tensors[f"{name}.{spelling.endings.get(role, role)}"] = tensor
    return StateDict(tensors, _without_configs(state.metadata))


def modules_of_diffusers(state: StateDict, base: Base) -> list[tuple[str, Module]]:
    """The modules of an adapter of any algorithm by the paths of diffusers, components in front.

    Raises as `respelled`.
    """
    return _named(_modules(state, base, DIFFUSERS), base, DIFFUSERS)


def _modules(state: StateDict, base: Base, layout: str) -> Sequence[Module]:
    """The modules of an adapter, where none of its keys would be lost. Raises UnsupportedFile."""
    if base not in (*FAMILIES, *FLOW_FAMILIES):
        known = ", ".join(family.label for family in (*FAMILIES, *FLOW_FAMILIES))
        raise UnsupportedFile(f"is for {base.label}; adapters of {known} are renamed")
    adapter = load_adapter(state)
    _require_complete(adapter, state.select(is_bundled), layout)
    return adapter.modules


def _named(modules: Sequence[Module], base: Base, layout: str) -> list[tuple[str, Module]]:
    """The modules with their names in a layout. Raises UnsupportedFile, MergeProblem."""
    if base in FLOW_FAMILIES:
        named = renamed(modules, base, layout)
    else:
        layers = layers_of(base, [place_of(module.name) for module in modules])
        named = [(_name(module, base, layers, layout), module) for module in modules]
    _require_different(named)
    return named


def _require_different(named: Sequence[tuple[str, Module]]) -> None:
    seen: dict[str, Module] = {}
    for name, module in named:
        other = seen.setdefault(f"{name} {module.part}", module)
        if other is not module:
            raise MergeProblem(
                f"modules {other.name} and {module.name} would both be {name}",
                hint="the file holds two adapters, or one adapter in two spellings",
            )


def _require_complete(adapter: Adapter, bundled: StateDict, layout: str) -> None:
    for key, reason in adapter.unused.items():
        if key not in bundled:
            raise UnsupportedFile(f"{key} cannot be renamed: {reason}")
    if bundled and layout == DIFFUSERS:
        raise UnsupportedFile(f"bundles embeddings ({next(iter(bundled))}), which diffusers cannot")


def _name(module: Module, base: Base, layers: Layers, layout: str) -> str:
    layer = layers.get(place_of(module.name))
    name = None if layer is None else SPELLINGS[layout].module(base, layer)
    if layer is None or name is None:
        raise UnsupportedFile(f"module {module.name} has no name in {layout} for {base.label}")
    return name


def _require_form(module: Module, layout: str) -> None:
    roles = module.tensors.keys()
    if layout == DIFFUSERS and not roles <= {"up", "down", "alpha", SCALE, VECTOR}:
        raise UnsupportedFile(
            f"module {module.name} is {module.family} ({', '.join(sorted(roles))}), "
            "which diffusers has no form for",
            hint="`assetmgr resize` makes a LoRA of it",
        )
    if layout == "comfy" and module.family == "ia3":
        raise UnsupportedFile(f"module {module.name} is ia3, which ComfyUI does not know")
    if layout != DIFFUSERS and (own := roles & _PEFT_ONLY.keys()):
        why = _PEFT_ONLY[min(own)]
        raise UnsupportedFile(
            f"module {module.name} is {module.family} as only PEFT computes it: {why}"
        )


def _with_alpha(module: Module) -> dict[str, LazyTensor]:
    """The tensors under kohya's roles; a scale that a configuration states becomes an alpha.

    Raises UnsupportedFile.
    """
    if PEFT_ROLE in module.tensors:
        return ia3_of_lycoris(module)
    tensors = {SCALE if role == VECTOR else role: t for role, t in module.tensors.items()}
    if VECTOR in module.tensors:
        tensors[SCALE] = _column(tensors[SCALE], len(module.shape("down")))
    stated, rank = module.stated.scale, rank_of(module)
    if stated is not None and rank is not None:
        data = struct.pack("<f", stated * rank)
        tensors["alpha"] = LazyTensor(
            DType.F32, (), (Extent(MemoryBytes(data), 0, len(data)),), f"{module.name}.alpha"
        )
    elif stated not in (None, 1.0) and _WHOLE in tensors:
        tensors[_WHOLE] = _times(tensors[_WHOLE], stated)
    return tensors


_WHOLE = "lokr_w1"
"""The first factor of LoKr, whose alpha means nothing where the second is whole, too."""


def _times(tensor: LazyTensor, factor: float) -> LazyTensor:
    from converters.compute import floats, lazy

    def product() -> Tensor:
        return floats(tensor).mul_(factor)

    return lazy(DType.F32, tensor.shape, product, tensor.origin, inputs=[tensor])


def _column(vector: LazyTensor, axes: int) -> LazyTensor:
    """A magnitude for each output as LyCORIS keeps it: (out, 1, ...)."""
    return vector.reshape((vector.numel, *[1] * (axes - 1)))


def _in_diffusers(named: list[tuple[str, Module]], state: StateDict) -> StateDict:
    """Factors as PEFT has them, and the scales in the metadata."""
    tensors: dict[str, LazyTensor] = {}
    configs: dict[str, dict[str, Module]] = {}
    for name, module in named:
        component, _, path = name.partition(".")
        for ending, tensor in lora_of_peft(module, path).items():
            tensors[f"{name}.{ending}"] = tensor
        configs.setdefault(component, {})[path] = module
    fields = {
        f"{component}.{field}": value
        for component, modules in configs.items()
        for field, value in lora_config(modules).items()
    }
    told = {**_without_configs(state.metadata), DIFFUSERS_CONFIG: json.dumps(fields)}
    return StateDict(tensors, told)


def lora_of_peft(module: Module, path: str) -> dict[str, LazyTensor]:
    """Factors with the axes that the layer has, and a magnitude as a vector, by PEFT's endings.

    Raises UnsupportedFile for magnitudes of inputs.
    """
    axes = 4 if is_convolution(path, len(module.shape("down"))) else 2
    found = {role: _with_axes(module.tensors[role], axes) for role in ("up", "down")}
    for role in (SCALE, VECTOR):
        if role in module.tensors:
            magnitude = module.tensors[role]
            if magnitude.numel != module.shape("up")[0]:
                raise UnsupportedFile(
                    f"the magnitudes of module {module.name} are of its inputs, "
                    "which diffusers has no form for"
                )
            ones = (1,) * (axes - 2)
            found[VECTOR] = magnitude.reshape(
                (1, magnitude.numel, *ones) if ones else (magnitude.numel,)
            )
    return {_PEFT_ENDINGS[role]: tensor for role, tensor in found.items()}


def is_convolution(path: str, axes: int) -> bool:
    """Whether a layer is a convolution, by its path and the axes of what changes it.

    SD1 projects in and out of attention by convolutions, the others by linear layers.
    """
    if ".transformer_blocks." in path or path.startswith("text_model."):
        return False
    return axes == 4


def _with_axes(tensor: LazyTensor, axes: int) -> LazyTensor:
    """A factor of a linear layer as a matrix, whatever its trainer took the layer for."""
    if axes == 4 or len(tensor.shape) == 2:
        return tensor
    return tensor.reshape((tensor.shape[0], tensor.shape[1]))


def _without_configs(metadata: Mapping[str, str]) -> dict[str, str]:
    return {
        key: text for key, text in metadata.items() if key not in (CONFIG_FILE, DIFFUSERS_CONFIG)
    }


def kohya_name(base: Base, layer: Layer) -> str:
    """What kohya's tools call the module of a layer."""
    two_encoders = base in (Base.SDXL, Base.SDXL_REFINER)
    if layer.component == DENOISER:
        return "lora_unet_" + _flat(layer.ldm if two_encoders else layer.diffusers)
    prefix = {"te1": "lora_te1_" if two_encoders else "lora_te_", "te2": "lora_te2_"}
    return prefix[layer.component] + _flat(layer.diffusers)


def _lycoris(_base: Base, layer: Layer) -> str | None:
    return None if layer.component == "te2" else "lycoris_" + _flat(layer.diffusers)


def _comfy(_base: Base, layer: Layer) -> str:
    if layer.component == DENOISER:
        return f"diffusion_model.{layer.ldm}"
    encoder = {"te1": "clip_l", "te2": "clip_g"}[layer.component]
    return f"text_encoders.{encoder}.transformer.{layer.diffusers}"


def _diffusers(_base: Base, layer: Layer) -> str | None:
    if layer.diffusers == TEXT_PROJECTION:
        return None
    heads = {DENOISER: "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
    return f"{heads[layer.component]}.{layer.diffusers}"


def _flat(path: str) -> str:
    return path.replace(".", "_")


SPELLINGS: Mapping[str, _Spelling] = {
    "kohya": _Spelling(kohya_name, _KOHYA_ENDINGS),
    "lycoris": _Spelling(_lycoris, _KOHYA_ENDINGS),
    "comfy": _Spelling(_comfy, _KOHYA_ENDINGS),
    DIFFUSERS: _Spelling(_diffusers, _PEFT_ENDINGS),
}
"""The layouts that adapters can be given."""
