"""The CLIP-L text encoder: names in single files <-> names of transformers' CLIPTextModel.

The layers are spelled alike everywhere; only what stands before them differs: single files have
`cond_stage_model.transformer.text_model.`, files made with old versions of transformers omit
`text_model.`, and so does CLIPTextModel itself since transformers 5.6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from converters.errors import CorruptFile
from converters.layouts.components import TEXT_ENCODER, own_or_component, strip_prefix
from converters.layouts.namemap import renamed
from converters.statedict import LazyTensor, StateDict

SINGLE_FILE_PREFIX = "cond_stage_model.transformer.text_model."
_HF = "text_model."
_OUTER = ("transformer.", "clip_l.transformer.")
_LAYER = (
    *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"),
    *("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"),
)
HEAD_WIDTH = 64
"""Channels of one attention head in every CLIP text encoder."""


@dataclass(frozen=True, slots=True)
class ClipConfig:
    """What is needed to build the text encoder, read from shapes.

    The number of heads leaves no trace: CLIP has 64 channels a head. SD1 takes the last layer's
    output through the final norm, with the `quick_gelu` activation.
    """

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    vocabulary: int
    positions: int
    activation: str = "quick_gelu"


def clip_to_transformers(sd: StateDict) -> StateDict:
    """The CLIP-L of a checkpoint or of a text-encoder file as CLIPTextModel names its tensors.

    `position_ids` (always 0..76, and broken by careless casts in some files) is left out: the
    library makes it.
    """
    clip = renamed(own_or_component(sd, TEXT_ENCODER), lambda name: strip_prefix(name, _OUTER))
    if any(name.startswith(_HF) for name in clip):  # some merged files hold both spellings
        clip = clip.select(lambda name: name.startswith(_HF))
    return renamed(clip, _inner).drop({"embeddings.position_ids"})


def clip_to_ldm(sd: StateDict) -> StateDict:
    """Tensors as named by CLIPTextModel under the names and prefix of an SD1 checkpoint."""
    return sd.rename(lambda name: SINGLE_FILE_PREFIX + _inner(name))


def clip_config(sd: StateDict) -> ClipConfig:
    """The configuration of a checkpoint's or file's CLIP text encoder. Raises CorruptFile."""
    clip = clip_to_transformers(sd)
    vocabulary, hidden = _shape(clip, "embeddings.token_embedding.weight")
    return ClipConfig(
        hidden_size=hidden,
        intermediate_size=_shape(clip, "encoder.layers.0.mlp.fc1.weight")[0],
        layers=layer_count(clip),
        heads=max(1, hidden // HEAD_WIDTH),
        vocabulary=vocabulary,
        positions=_shape(clip, "embeddings.position_embedding.weight")[0],
    )


def layer_count(clip: Mapping[str, LazyTensor]) -> int:
    """Number of transformer layers of an encoder named as by CLIPTextModel.

    Never more than it has tensors, whatever number a name carries.
    """
    layer = re.compile(r"encoder\.layers\.(\d{1,6})\.")
    found = max((int(m[1]) + 1 for name in clip if (m := layer.match(name))), default=0)
    return min(found, len(clip))


def expected_tensors(clip: Mapping[str, LazyTensor]) -> tuple[str, ...]:
    """The CLIPTextModel names that a complete encoder with this one's layers has."""
    modules = [f"encoder.layers.{n}.{m}" for n in range(layer_count(clip)) for m in _LAYER]
    return (
        "embeddings.token_embedding.weight",
        "embeddings.position_embedding.weight",
        *(f"{m}.{part}" for m in (*modules, "final_layer_norm") for part in ("weight", "bias")),
    )


def _inner(name: str) -> str:
    return name.removeprefix(_HF)


def _shape(sd: Mapping[str, LazyTensor], name: str) -> tuple[int, int]:
    tensor = sd.get(name)
    if tensor is None or len(tensor.shape) != 2:
        raise CorruptFile(f"the text encoder lacks {name}, or its shape is wrong")
    return tensor.shape[0], tensor.shape[1]
