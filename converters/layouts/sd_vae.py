"""The kl-f8 autoencoder of Stable Diffusion: LDM names <-> diffusers names, and its configuration.

The decoder's levels run in opposite order in the two layouts, and the middle attention is a 1x1
convolution in LDM and a linear layer in diffusers. Source: CompVis/stable-diffusion
`ldm/modules/diffusionmodules/model.py`, huggingface/diffusers `single_file_utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from converters.errors import CorruptFile
from converters.layouts.components import PREFIXES, TRAINING_ONLY, VAE, own_or_component
from converters.layouts.namemap import NameMap, check_counts, joined, renamed
from converters.statedict import LazyTensor, StateDict

_SHORTCUT = (("nin_shortcut", "conv_shortcut"),)
_MIDDLE_ATTENTION = (
    ("norm", "group_norm"),
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("proj_out", "to_out.0"),
)
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of the middle attention in diffusers before 0.17."""

_LINEAR = re.compile(
    r"(?:en|de)coder\.mid(?:\.attn_1\.(?:q|k|v|proj_out)"
    r"|_block\.attentions\.0\.to_(?:q|k|v|out\.0))\.weight"
)


@dataclass(frozen=True, slots=True)
class VaeConfig:
    """What is needed to build the autoencoder, read from shapes.

    The norm groups and the scale of the latents (0.18215 for SD1 and SD2) leave no trace in the
    tensors.
    """

    in_channels: int
    out_channels: int
    latent_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    quant_conv: bool
    post_quant_conv: bool
    middle_attention: bool
    norm_groups: int = 32
    scaling_factor: float = 0.18215


def name_map(levels: int, layers: int) -> NameMap:
    """LDM -> diffusers module paths of an autoencoder with `layers` residual blocks a level."""
    return NameMap.of([*_half("encoder", levels, layers), *_half("decoder", levels, layers + 1)])


def _half(half: str, levels: int, layers: int) -> Iterator[tuple[str, str]]:
    yield f"{half}.norm_out", f"{half}.conv_norm_out"
    yield from joined(f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0", _MIDDLE_ATTENTION)
    for number in (1, 2):
        yield f"{half}.mid.block_{number}", f"{half}.mid_block.resnets.{number - 1}"
    side, sampler = ("down", "downsample") if half == "encoder" else ("up", "upsample")
    for level in range(levels):
        block = level if half == "encoder" else levels - 1 - level
        left, right = f"{half}.{side}.{level}", f"{half}.{side}_blocks.{block}"
        for layer in range(layers):
            inner = f"{left}.block.{layer}", f"{right}.resnets.{layer}"
            yield inner
            yield from joined(*inner, _SHORTCUT)
        yield f"{left}.{sampler}.conv", f"{right}.{sampler}rs.0.conv"


def is_diffusers_vae(sd: Mapping[str, LazyTensor]) -> bool:
    """Whether the tensors carry diffusers names."""
    return any(name.startswith(("encoder.down_blocks.", "decoder.up_blocks.")) for name in sd)


def vae_to_diffusers(sd: StateDict) -> StateDict:
    """The autoencoder of a checkpoint or of a VAE file under diffusers names, without prefix.

    Leaves out what only training needs (`loss.*`, `model_ema.*`).
    """
    vae = own_or_component(sd, VAE).select(lambda name: not name.startswith(TRAINING_ONLY))
    if is_diffusers_vae(vae):
        return renamed(vae, _modern).map(_as_linear)
    return name_map(*_ldm_counts(vae)).apply(vae).map(_as_linear)


def vae_to_ldm(sd: StateDict) -> StateDict:
    """An autoencoder with diffusers names as a single-file checkpoint names it, with prefix."""
    modern = renamed(sd, _modern)
    ldm = name_map(*_diffusers_counts(modern)).inverse.apply(modern).map(_as_convolution)
    return ldm.rename(lambda name: PREFIXES[VAE][0] + name)


def vae_config(sd: StateDict) -> VaeConfig:
    """The configuration of a checkpoint's or file's autoencoder. Raises CorruptFile."""
    vae = vae_to_diffusers(sd)
    levels, layers = _diffusers_counts(vae)
    coloured = _shape(vae, "decoder.conv_out.weight")[0]
    has_encoder = "encoder.conv_in.weight" in vae
    return VaeConfig(
        in_channels=_shape(vae, "encoder.conv_in.weight")[1] if has_encoder else coloured,
        out_channels=coloured,
        latent_channels=_shape(vae, "decoder.conv_in.weight")[1],
        block_out_channels=tuple(_channels(vae, levels, has_encoder=has_encoder)),
        layers_per_block=layers,
        quant_conv="quant_conv.weight" in vae,
        post_quant_conv="post_quant_conv.weight" in vae,
        middle_attention="decoder.mid_block.attentions.0.to_q.weight" in vae,
    )


def _channels(vae: StateDict, levels: int, *, has_encoder: bool) -> Iterator[int]:
    """Channels of each level, whose blocks the decoder has in the opposite order."""
    for level in range(levels):
        block = f"encoder.down_blocks.{level}" if has_encoder else _up_block(levels, level)
        yield _shape(vae, f"{block}.resnets.0.conv1.weight")[0]


def _up_block(levels: int, level: int) -> str:
    return f"decoder.up_blocks.{levels - 1 - level}"


def expected_tensors(sd: Mapping[str, LazyTensor]) -> tuple[str, ...]:
    """The diffusers names that a complete autoencoder of this one's structure has.

    `sd` carries diffusers names. Shortcuts belong to the first block of a level that changes the
    number of channels; the last level of each half has no sampler.
    """
    levels, layers = _diffusers_counts(sd)
    modules = ["quant_conv", "post_quant_conv"]
    for half, side, sampler, count in (
        ("encoder", "down", "downsamplers", layers),
        ("decoder", "up", "upsamplers", layers + 1),
    ):
        modules += [f"{half}.{m}" for m in ("conv_in", "conv_norm_out", "conv_out")]
        attention = f"{half}.mid_block.attentions.0"
        modules += [f"{attention}.{right}" for _, right in _MIDDLE_ATTENTION]
        blocks = [f"{half}.mid_block.resnets.{n}" for n in (0, 1)]
        for level in range(levels):
            block = f"{half}.{side}_blocks.{level}"
            blocks += [f"{block}.resnets.{n}" for n in range(count)]
            modules += [f"{block}.{sampler}.0.conv"] if level < levels - 1 else []
        modules += [f"{b}.{m}" for b in blocks for m in _block_modules(sd, b)]
    return tuple(f"{module}.{part}" for module in modules for part in ("weight", "bias"))


def _block_modules(sd: Mapping[str, LazyTensor], block: str) -> tuple[str, ...]:
    plain = ("norm1", "conv1", "norm2", "conv2")
    conv = sd.get(f"{block}.conv1.weight")
    changes = conv is not None and len(conv.shape) == 4 and conv.shape[0] != conv.shape[1]
    return (*plain, "conv_shortcut") if changes else plain


def _modern(name: str) -> str:
    outer, separator, rest = name.partition(".mid_block.attentions.0.")
    module, dot, part = rest.rpartition(".")
    return f"{outer}{separator}{_OLD_ATTENTION.get(module, module)}{dot}{part}"


def _as_linear(name: str, tensor: LazyTensor) -> LazyTensor:
    if _LINEAR.fullmatch(name) and set(tensor.shape[2:]) == {1}:
        return tensor.reshape(tensor.shape[:2])
    return tensor


def _as_convolution(name: str, tensor: LazyTensor) -> LazyTensor:
    if _LINEAR.fullmatch(name) and len(tensor.shape) == 2:
        return tensor.reshape((*tensor.shape, 1, 1))
    return tensor


def _ldm_counts(sd: Mapping[str, LazyTensor]) -> tuple[int, int]:
    return _counts(sd, r"{half}\.{side}\.(\d{{1,6}})\.block\.(\d{{1,6}})\.conv1\.weight")


def _diffusers_counts(sd: Mapping[str, LazyTensor]) -> tuple[int, int]:
    return _counts(sd, r"{half}\.{side}_blocks\.(\d{{1,6}})\.resnets\.(\d{{1,6}})\.conv1\.weight")


def _counts(sd: Mapping[str, LazyTensor], pattern: str) -> tuple[int, int]:
    """Levels, and residual blocks of one in the encoder.

    A decoder alone, whose levels have one more, tells as well.
    """
    for half, side, more in (("encoder", "down", 0), ("decoder", "up", 1)):
        compiled = re.compile(pattern.format(half=half, side=side))
        found = [(int(m[1]), int(m[2])) for name in sd if (m := compiled.fullmatch(name))]
        if found:
            levels, layers = (max(numbers) + 1 for numbers in zip(*found, strict=True))
            check_counts("autoencoder", levels, layers)
            return levels, layers - more
    raise CorruptFile("the autoencoder has blocks of neither encoder nor decoder")


def _shape(sd: Mapping[str, LazyTensor], name: str) -> tuple[int, ...]:
    tensor = sd.get(name)
    if tensor is None or len(tensor.shape) != 4:
        raise CorruptFile(f"the autoencoder lacks {name}, or its shape is wrong")
    return tensor.shape
