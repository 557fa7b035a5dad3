"""Tiny SD3 and Flux models made by diffusers and transformers, and their files in both layouts.

The original names are written from black-forest-labs/flux `modules/layers.py` and
Stability-AI/sd3-ref `mmdit.py`, not from `converters.layouts`.
"""

from __future__ import annotations

from typing import Any

import torch

Tensors = dict[str, torch.Tensor]

TOKEN = 64
CLIP_WIDTH, BIG_WIDTH = 24, 40
"""Widths of the two summaries; together SD3's."""


def sd3(
    *, dual: tuple[int, ...] = (), normed: bool = False, pooled: int = CLIP_WIDTH + BIG_WIDTH
) -> Any:
    """A random SD3 transformer of two blocks."""
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(1)
    return _lively(
        SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=64,
            num_attention_heads=1,
            joint_attention_dim=TOKEN,
            caption_projection_dim=64,
            pooled_projection_dim=pooled,
            pos_embed_max_size=16,
            dual_attention_layers=dual,
            qk_norm="rms_norm" if normed else None,
        )
    )


def flux(*, guided: bool) -> Any:
    """A random Flux transformer of two double and two single blocks."""
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(2)
    return _lively(
        FluxTransformer2DModel(
            in_channels=64,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=32,
            num_attention_heads=2,
            joint_attention_dim=TOKEN,
            pooled_projection_dim=CLIP_WIDTH,
            guidance_embeds=guided,
            axes_dims_rope=(4, 14, 14),
        )
    )


def _lively(network: Any) -> Any:
    """With norms and biases that are not all ones and zeros, so that exchanged ones are noticed."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return network.eval()


def original(network: Any) -> Tensors:
    """A transformer's tensors under the names of its authors, without prefix."""
    state = network.state_dict()
    return _flux_original(state) if "x_embedder.weight" in state else _sd3_original(state)


def _swap(tensor: torch.Tensor) -> torch.Tensor:
    return torch.cat(tensor.chunk(2)[::-1])


def _both(target: Tensors, name: str, state: Tensors, *paths: str) -> None:
    """Weight and bias of the layers below each other."""
    for kind in ("weight", "bias"):
        target[f"{name}.{kind}"] = torch.cat([state[f"{path}.{kind}"] for path in paths])


def _final(made: Tensors, state: Tensors) -> None:
    _both(made, "final_layer.linear", state, "proj_out")
    for kind in ("weight", "bias"):
        made[f"final_layer.adaLN_modulation.1.{kind}"] = _swap(state[f"norm_out.linear.{kind}"])


def _sd3_original(state: Tensors) -> Tensors:
    made: Tensors = {"pos_embed": state["pos_embed.pos_embed"]}
    _both(made, "x_embedder.proj", state, "pos_embed.proj")
    _both(made, "context_embedder", state, "context_embedder")
    for name, path in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        _both(made, f"{name}.mlp.0", state, f"time_text_embed.{path}.linear_1")
        _both(made, f"{name}.mlp.2", state, f"time_text_embed.{path}.linear_2")
    for number in range(2):
        b, j = f"transformer_blocks.{number}", f"joint_blocks.{number}"
        x, c = f"{j}.x_block", f"{j}.context_block"
        _both(made, f"{x}.attn.qkv", state, *(f"{b}.attn.to_{n}" for n in "qkv"))
        _both(made, f"{c}.attn.qkv", state, *(f"{b}.attn.add_{n}_proj" for n in "qkv"))
        _both(made, f"{x}.attn.proj", state, f"{b}.attn.to_out.0")
        _both(made, f"{x}.mlp.fc1", state, f"{b}.ff.net.0.proj")
        _both(made, f"{x}.mlp.fc2", state, f"{b}.ff.net.2")
        _both(made, f"{x}.adaLN_modulation.1", state, f"{b}.norm1.linear")
        _both(made, f"{c}.adaLN_modulation.1", state, f"{b}.norm1_context.linear")
        if number == 0:
            _both(made, f"{c}.attn.proj", state, f"{b}.attn.to_add_out")
            _both(made, f"{c}.mlp.fc1", state, f"{b}.ff_context.net.0.proj")
            _both(made, f"{c}.mlp.fc2", state, f"{b}.ff_context.net.2")
        else:
            for kind in ("weight", "bias"):
                name = f"{c}.adaLN_modulation.1.{kind}"
                made[name] = _swap(made[name])
        if f"{b}.attn2.to_q.weight" in state:
            _both(made, f"{x}.attn2.qkv", state, *(f"{b}.attn2.to_{n}" for n in "qkv"))
            _both(made, f"{x}.attn2.proj", state, f"{b}.attn2.to_out.0")
        for name, path in (
            *((f"{x}.attn.ln_{n}", f"{b}.attn.norm_{n}") for n in "qk"),
            *((f"{c}.attn.ln_{n}", f"{b}.attn.norm_added_{n}") for n in "qk"),
            *((f"{x}.attn2.ln_{n}", f"{b}.attn2.norm_{n}") for n in "qk"),
        ):
            if f"{path}.weight" in state:
                made[f"{name}.weight"] = state[f"{path}.weight"]
    _final(made, state)
    return made


def _flux_original(state: Tensors) -> Tensors:
    made: Tensors = {}
    _both(made, "img_in", state, "x_embedder")
    _both(made, "txt_in", state, "context_embedder")
    for name, path in (("time", "timestep"), ("vector", "text"), ("guidance", "guidance")):
        embedder = f"time_text_embed.{path}_embedder"
        if f"{embedder}.linear_1.weight" in state:
            _both(made, f"{name}_in.in_layer", state, f"{embedder}.linear_1")
            _both(made, f"{name}_in.out_layer", state, f"{embedder}.linear_2")
    for number in range(2):
        b, d = f"transformer_blocks.{number}", f"double_blocks.{number}"
        for side, norm, layers, out, ff, added in (
            ("img", "norm1", [f"to_{n}" for n in "qkv"], "to_out.0", "ff", ""),
            (
                *("txt", "norm1_context", [f"add_{n}_proj" for n in "qkv"]),
                *("to_add_out", "ff_context", "added_"),
            ),
        ):
            _both(made, f"{d}.{side}_mod.lin", state, f"{b}.{norm}.linear")
            _both(made, f"{d}.{side}_attn.qkv", state, *(f"{b}.attn.{n}" for n in layers))
            _both(made, f"{d}.{side}_attn.proj", state, f"{b}.attn.{out}")
            _both(made, f"{d}.{side}_mlp.0", state, f"{b}.{ff}.net.0.proj")
            _both(made, f"{d}.{side}_mlp.2", state, f"{b}.{ff}.net.2")
            for word, n in (("query", "q"), ("key", "k")):
                scale = state[f"{b}.attn.norm_{added}{n}.weight"]
                made[f"{d}.{side}_attn.norm.{word}_norm.scale"] = scale
        b, s = f"single_transformer_blocks.{number}", f"single_blocks.{number}"
        inputs = (*(f"{b}.attn.to_{n}" for n in "qkv"), f"{b}.proj_mlp")
        _both(made, f"{s}.linear1", state, *inputs)
        _both(made, f"{s}.linear2", state, f"{b}.proj_out")
        _both(made, f"{s}.modulation.lin", state, f"{b}.norm.linear")
        for word, n in (("query", "q"), ("key", "k")):
            made[f"{s}.norm.{word}_norm.scale"] = state[f"{b}.attn.norm_{n}.weight"]
    _final(made, state)
    return made


def encoder(width: int, *, projected: bool, activation: str = "quick_gelu") -> Any:
    """A random CLIP text encoder of two layers with CLIP's vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(width)
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=max(1, width // 64),
        vocab_size=49408,
        projection_dim=width,
        hidden_act=activation,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=1,
    )
    return _lively((CLIPTextModelWithProjection if projected else CLIPTextModel)(config))


def t5() -> Any:
    """A random gated T5 encoder of two layers."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(5)
    return _lively(
        T5EncoderModel(
            T5Config(
                vocab_size=64,
                d_model=TOKEN,
                d_kv=16,
                d_ff=96,
                num_layers=2,
                num_heads=4,
                feed_forward_proj="gated-gelu",
                is_encoder_decoder=False,
                use_cache=False,
            )
        )
    )


def vae(scaling: float, shift: float) -> Any:
    """A random autoencoder of 16 channels without quantisation layers."""
    from diffusers import AutoencoderKL

    torch.manual_seed(16)
    return _lively(
        AutoencoderKL(
            block_out_channels=(32, 32, 32, 32),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            layers_per_block=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=scaling,
            shift_factor=shift,
        )
    )


def tokenizer(path: Any) -> Any:
    """A T5 tokenizer of single letters, in `tokenizer.json`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = ["<pad>", "</s>", "<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz,."]
    made = Tokenizer(models.Unigram([(letter, -1.0) for letter in letters], unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    made.save(str(path))
    return path


def numpy(tensors: Tensors, prefix: str = "") -> dict[str, Any]:
    """Named arrays to be written."""
    return {prefix + name: tensor.detach().numpy() for name, tensor in tensors.items()}
