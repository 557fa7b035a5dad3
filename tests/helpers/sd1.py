"""Builders of Stable-Diffusion-1-shaped state dicts: names and shapes as training code makes them.

Written from the structure of the networks (CompVis/stable-diffusion `openaimodel.py`, `model.py`;
CLIP), independently of `converters.layouts`, so that the two can be tested against each other.
Without `fill` the tensors have no data: reading one is a failure of the test.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from converters.bytesource import MemoryBytes
from converters.dtypes import DType
from converters.statedict import Buffer, Extent, LazyTensor, StateDict

Shapes = dict[str, tuple[int, ...]]
Fill = Callable[[str, tuple[int, ...]], bytes]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP, OLD_CLIP = "cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."


@dataclass(frozen=True)
class Widths:
    """The sizes of a model; the defaults are those of Stable Diffusion 1.5."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)
    layers: int = 2
    context: int = 768
    in_channels: int = 4
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers: int = 2
    latent: int = 4
    clip_layers: int = 12
    clip_inner: int = 3072
    vocabulary: int = 49408
    adm: int | None = None
    linear: bool = False
    depths: tuple[int, ...] | None = None


TRUE = Widths()
SMALL = Widths(
    channels=(32, 64),
    attention=(True, True),
    layers=1,
    vae_channels=(32, 32),
    vae_layers=1,
    clip_layers=2,
    clip_inner=64,
    vocabulary=512,
)


def unet_shapes(w: Widths = TRUE) -> Shapes:
    """A UNet under LDM names, without prefix."""
    shapes: Shapes = {}
    first, time = w.channels[0], 4 * w.channels[0]
    _linear(shapes, "time_embed.0", time, first)
    _linear(shapes, "time_embed.2", time, time)
    if w.adm is not None:
        _linear(shapes, "label_emb.0.0", time, w.adm)
        _linear(shapes, "label_emb.0.2", time, time)
    _conv(shapes, "input_blocks.0.0", first, w.in_channels, 3)
    skips, width, k = [first], first, 1
    for level, channels in enumerate(w.channels):
        for _ in range(w.layers):
            _resnet(shapes, f"input_blocks.{k}.0", width, channels, time)
            width = channels
            if w.attention[level]:
                _transformer(shapes, f"input_blocks.{k}.1", width, w, level)
            skips.append(width)
            k += 1
        if level < len(w.channels) - 1:
            _conv(shapes, f"input_blocks.{k}.0.op", width, width, 3)
            skips.append(width)
            k += 1
    _resnet(shapes, "middle_block.0", width, width, time)
    _transformer(shapes, "middle_block.1", width, w, len(w.channels) - 1)
    _resnet(shapes, "middle_block.2", width, width, time)
    k = 0
    for level, channels in reversed(list(enumerate(w.channels))):
        for layer in range(w.layers + 1):
            _resnet(shapes, f"output_blocks.{k}.0", width + skips.pop(), channels, time)
            width, inner = channels, 1
            if w.attention[level]:
                _transformer(shapes, f"output_blocks.{k}.1", width, w, level)
                inner = 2
            if level and layer == w.layers:
                _conv(shapes, f"output_blocks.{k}.{inner}.conv", width, width, 3)
            k += 1
    _norm(shapes, "out.0", width)
    _conv(shapes, "out.2", 4, width, 3)
    return shapes


def vae_shapes(w: Widths = TRUE) -> Shapes:
    """A kl-f8 autoencoder under LDM names, without prefix."""
    shapes: Shapes = {}
    channels, last = w.vae_channels, w.vae_channels[-1]
    _conv(shapes, "encoder.conv_in", channels[0], 3, 3)
    width = channels[0]
    for level, out in enumerate(channels):
        for block in range(w.vae_layers):
            _vae_block(shapes, f"encoder.down.{level}.block.{block}", width, out)
            width = out
        if level < len(channels) - 1:
            _conv(shapes, f"encoder.down.{level}.downsample.conv", out, out, 3)
    _vae_middle(shapes, "encoder.mid", last)
    _norm(shapes, "encoder.norm_out", last)
    _conv(shapes, "encoder.conv_out", 2 * w.latent, last, 3)
    _conv(shapes, "quant_conv", 2 * w.latent, 2 * w.latent, 1)
    _conv(shapes, "post_quant_conv", w.latent, w.latent, 1)
    _conv(shapes, "decoder.conv_in", last, w.latent, 3)
    _vae_middle(shapes, "decoder.mid", last)
    width = last
    for level, out in reversed(list(enumerate(channels))):
        for block in range(w.vae_layers + 1):
            _vae_block(shapes, f"decoder.up.{level}.block.{block}", width, out)
            width = out
        if level:
            _conv(shapes, f"decoder.up.{level}.upsample.conv", out, out, 3)
    _norm(shapes, "decoder.norm_out", channels[0])
    _conv(shapes, "decoder.conv_out", 3, channels[0], 3)
    return shapes


def clip_shapes(w: Widths = TRUE) -> Shapes:
    """A CLIP text encoder as transformers' CLIPTextModel names it (plus `position_ids`)."""
    d = w.context
    shapes: Shapes = {
        "embeddings.token_embedding.weight": (w.vocabulary, d),
        "embeddings.position_embedding.weight": (77, d),
        "embeddings.position_ids": (1, 77),
    }
    for layer in range(w.clip_layers):
        path = f"encoder.layers.{layer}"
        for name in ("q", "k", "v", "out"):
            _linear(shapes, f"{path}.self_attn.{name}_proj", d, d)
        _linear(shapes, f"{path}.mlp.fc1", w.clip_inner, d)
        _linear(shapes, f"{path}.mlp.fc2", d, w.clip_inner)
        _norm(shapes, f"{path}.layer_norm1", d)
        _norm(shapes, f"{path}.layer_norm2", d)
    _norm(shapes, "final_layer_norm", d)
    return shapes


def checkpoint_shapes(w: Widths = TRUE, *, clip_prefix: str = CLIP) -> Shapes:
    """A whole single-file checkpoint."""
    return {
        **prefixed(clip_prefix, clip_shapes(w)),
        **prefixed(VAE, vae_shapes(w)),
        **prefixed(UNET, unet_shapes(w)),
    }


def lora_shapes(modules: Mapping[str, tuple[int, ...]], rank: int = 4) -> Shapes:
    """kohya LoRA tensors for modules given as name -> weight shape of the module."""
    shapes: Shapes = {}
    for name, (out, inner, *kernel) in modules.items():
        ones = (1,) * len(kernel)
        shapes[f"{name}.lora_down.weight"] = (rank, inner, *kernel)
        shapes[f"{name}.lora_up.weight"] = (out, rank, *ones)
        shapes[f"{name}.alpha"] = ()
    return shapes


def kohya_modules(w: Widths = TRUE, *, convolutions: bool = False) -> dict[str, tuple[int, ...]]:
    """The modules a kohya LoRA of this UNet's outermost level has, with their weight shapes."""
    c = w.channels[0]
    path = "lora_unet_down_blocks_0_attentions_0"
    block = f"{path}_transformer_blocks_0"
    modules: dict[str, tuple[int, ...]] = {
        f"{path}_proj_in": (c, c, 1, 1),
        f"{block}_attn1_to_q": (c, c),
        f"{block}_attn2_to_k": (c, w.context),
        f"{block}_attn2_to_out_0": (c, c),
        f"{block}_ff_net_0_proj": (8 * c, c),
    }
    if convolutions:
        modules["lora_unet_down_blocks_0_resnets_0_conv1"] = (c, c, 3, 3)
    return modules


def kohya_text_modules(w: Widths = TRUE) -> dict[str, tuple[int, ...]]:
    """The modules a kohya LoRA of this text encoder's first layer has."""
    path = "lora_te_text_model_encoder_layers_0"
    return {
        f"{path}_self_attn_q_proj": (w.context, w.context),
        f"{path}_mlp_fc1": (w.clip_inner, w.context),
    }


def prefixed(prefix: str, shapes: Shapes) -> Shapes:
    """The same shapes under names with a prefix."""
    return {prefix + name: shape for name, shape in shapes.items()}


def state_dict(
    shapes: Mapping[str, Iterable[int]],
    dtype: DType = DType.F16,
    *,
    metadata: Mapping[str, str] | None = None,
    fill: Fill | None = None,
) -> StateDict:
    """A StateDict of these names and shapes; `fill(name, shape)` gives the bytes if wanted."""
    tensors = {name: _tensor(name, tuple(shape), dtype, fill) for name, shape in shapes.items()}
    return StateDict(tensors, metadata or {})


def random_fill(dtype: DType = DType.F16, scale: float = 0.05) -> Fill:
    """Normally distributed values, the same for the same name at every call."""
    numbers, width = _random_numbers(dtype, scale), dtype.bits // 8
    period = len(numbers) // 2

    def fill(name: str, shape: tuple[int, ...]) -> bytes:
        start = zlib.crc32(name.encode()) % (period // width) * width
        times, rest = divmod(math.prod(shape) * width, period)
        return numbers[start : start + period] * times + numbers[start : start + rest]

    return fill


@functools.cache
def _random_numbers(dtype: DType, scale: float) -> bytes:
    """The same prime number of values twice: drawing some for every tensor would take longer."""
    import numpy as np

    kinds = {DType.F16: np.float16, DType.F32: np.float32}
    values = np.random.default_rng(0).standard_normal(1_000_003) * scale
    return np.tile(values.astype(kinds[dtype]), 2).tobytes()


def stored(dtype: DType, shape: tuple[int, ...], data: bytes, name: str = "t") -> LazyTensor:
    """A tensor whose bytes lie in memory."""
    return LazyTensor(dtype, shape, (Extent(MemoryBytes(data, name), 0, len(data)),), name)


def _tensor(name: str, shape: tuple[int, ...], dtype: DType, fill: Fill | None) -> LazyTensor:
    kind = DType.I64 if name.endswith("position_ids") else dtype
    if fill is None:
        return LazyTensor(kind, shape, _unread, name)
    if kind is DType.I64:
        count = math.prod(shape)
        return stored(kind, shape, b"".join(n.to_bytes(8, "little") for n in range(count)), name)
    return stored(kind, shape, fill(name, shape), name)


def _unread() -> Buffer:
    raise AssertionError("tensor data was read")


def _linear(shapes: Shapes, name: str, out: int, inner: int, *, bias: bool = True) -> None:
    shapes[f"{name}.weight"] = (out, inner)
    if bias:
        shapes[f"{name}.bias"] = (out,)


def _conv(shapes: Shapes, name: str, out: int, inner: int, kernel: int) -> None:
    shapes[f"{name}.weight"] = (out, inner, kernel, kernel)
    shapes[f"{name}.bias"] = (out,)


def _norm(shapes: Shapes, name: str, width: int) -> None:
    shapes[f"{name}.weight"] = (width,)
    shapes[f"{name}.bias"] = (width,)


def _resnet(shapes: Shapes, name: str, inner: int, out: int, time: int) -> None:
    _norm(shapes, f"{name}.in_layers.0", inner)
    _conv(shapes, f"{name}.in_layers.2", out, inner, 3)
    _linear(shapes, f"{name}.emb_layers.1", out, time)
    _norm(shapes, f"{name}.out_layers.0", out)
    _conv(shapes, f"{name}.out_layers.3", out, out, 3)
    if inner != out:
        _conv(shapes, f"{name}.skip_connection", out, inner, 1)


def _transformer(shapes: Shapes, name: str, c: int, w: Widths, level: int) -> None:
    _norm(shapes, f"{name}.norm", c)
    for projection in ("proj_in", "proj_out"):
        if w.linear:
            _linear(shapes, f"{name}.{projection}", c, c)
        else:
            _conv(shapes, f"{name}.{projection}", c, c, 1)
    for block in range(w.depths[level] if w.depths else 1):
        path = f"{name}.transformer_blocks.{block}"
        for attention, context in (("attn1", c), ("attn2", w.context)):
            _linear(shapes, f"{path}.{attention}.to_q", c, c, bias=False)
            _linear(shapes, f"{path}.{attention}.to_k", c, context, bias=False)
            _linear(shapes, f"{path}.{attention}.to_v", c, context, bias=False)
            _linear(shapes, f"{path}.{attention}.to_out.0", c, c)
        _linear(shapes, f"{path}.ff.net.0.proj", 8 * c, c)
        _linear(shapes, f"{path}.ff.net.2", c, 4 * c)
        for norm in ("norm1", "norm2", "norm3"):
            _norm(shapes, f"{path}.{norm}", c)


def _vae_block(shapes: Shapes, name: str, inner: int, out: int) -> None:
    _norm(shapes, f"{name}.norm1", inner)
    _conv(shapes, f"{name}.conv1", out, inner, 3)
    _norm(shapes, f"{name}.norm2", out)
    _conv(shapes, f"{name}.conv2", out, out, 3)
    if inner != out:
        _conv(shapes, f"{name}.nin_shortcut", out, inner, 1)


def _vae_middle(shapes: Shapes, name: str, c: int) -> None:
    _vae_block(shapes, f"{name}.block_1", c, c)
    _norm(shapes, f"{name}.attn_1.norm", c)
    for projection in ("q", "k", "v", "proj_out"):
        _conv(shapes, f"{name}.attn_1.{projection}", c, c, 1)
    _vae_block(shapes, f"{name}.block_2", c, c)
