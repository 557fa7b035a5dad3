"""Every layer of a family's networks that adapters name, by the paths that programs build on.

Trainers write a layer's path with underscores for dots, which cannot be read back by itself; it can
be looked up among the layers there are. UNets have two paths for each layer, LDM's and diffusers';
text encoders that of transformers. Sources: as `converters.layouts.sd_unet`; the depths of the
families are those of Stability-AI/generative-models `configs/inference`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

from converters.adapters.places import DENOISER, Place
from converters.bases import Base
from converters.layouts.sd_unet import Skeleton

_SKELETONS: Mapping[Base, Skeleton] = {
    Base.SD1: Skeleton(2, (True, True, True, False)),
    Base.SD2: Skeleton(2, (True, True, True, False)),
    Base.SDXL: Skeleton(2, (False, True, True)),
    Base.SDXL_REFINER: Skeleton(2, (False, True, True, False)),
}
FAMILIES = tuple(_SKELETONS)
"""The families whose layers are listed here."""

_MOST_LEVELS = 4
_DEEPEST = 10
"""Transformer blocks of SDXL's innermost attention, the most of any family."""
_ATTENTION = ("norm", "proj_in", "proj_out")
_BLOCK = (
    *(f"attn{n}.to_{x}" for n in (1, 2) for x in ("q", "k", "v", "out.0")),
    *("ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"),
)
_ENCODERS = ("te1", "te2")
_ENCODER_LAYERS = 32
_ENCODER_LAYER = (
    *(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")),
    *("mlp.fc1", "mlp.fc2", "layer_norm1", "layer_norm2"),
)
_ENCODER_ENDS = (
    *("embeddings.token_embedding", "embeddings.position_embedding", "final_layer_norm"),
)
TEXT_PROJECTION = "text_projection"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its component (`unet`, `te1`, `te2`), and its path in either layout.

    Text encoders have one path, that in transformers.
    """

    component: str
    ldm: str
    diffusers: str


Layers = Mapping[Place, Layer]
"""The layers of a model by every place that a module's name can mean."""


def layers_of(base: Base, places: Collection[Place]) -> Layers:
    """The layers of a family.

    Where they lack one of the `places`, the first other structure of UNets is taken that has all:
    trimmed and small models have other levels than their family.
    """
    own = _layers(_SKELETONS[base])
    if not any(place not in own for place in places):
        return own
    others = (_layers(skeleton) for skeleton in _other_skeletons())
    return next((found for found in others if not any(p not in found for p in places)), own)


def _other_skeletons() -> Iterator[Skeleton]:
    for layers in (2, 1):
        for levels in range(_MOST_LEVELS, 0, -1):
            for attention in product((True, False), repeat=levels):
                yield Skeleton(layers, attention)


@cache
def _layers(skeleton: Skeleton) -> Layers:
    return {
        (layer.component, _flat(_short(path))): layer
        for layer in (*_unet(skeleton), *encoder_layers())
        for path in (layer.ldm, layer.diffusers)
    }


def _unet(skeleton: Skeleton) -> Iterator[Layer]:
    for ldm, diffusers in skeleton.name_map().forward.items():
        if ".attentions." not in diffusers:
            yield Layer(DENOISER, ldm, diffusers)
            continue
        for inner in _attention():
            yield Layer(DENOISER, f"{ldm}.{inner}", f"{diffusers}.{inner}")


def _attention() -> Iterator[str]:
    yield from _ATTENTION
    for depth in range(_DEEPEST):
        yield from (f"transformer_blocks.{depth}.{inner}" for inner in _BLOCK)


def encoder_layers() -> Iterator[Layer]:
    """The layers of the CLIP text encoders, `te1` and `te2`."""
    for encoder in _ENCODERS:
        for path in (*_ENCODER_ENDS, *_layers_of_encoder()):
            yield Layer(encoder, f"text_model.{path}", f"text_model.{path}")
        yield Layer(encoder, TEXT_PROJECTION, TEXT_PROJECTION)


def _layers_of_encoder() -> Iterator[str]:
    for number in range(_ENCODER_LAYERS):
        yield from (f"encoder.layers.{number}.{inner}" for inner in _ENCODER_LAYER)


def _short(path: str) -> str:
    return path.removeprefix("text_model.")


def _flat(path: str) -> str:
    return path.replace(".", "_")
