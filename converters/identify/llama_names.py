"""Names that llama.cpp gives the tensors of T5 and of language models, as transformers has them.

GGUF files of text encoders carry them. Source: ggml-org/llama.cpp `gguf-py/gguf/constants.py`.
"""

from __future__ import annotations

import re

from converters.identify.names import Names

_TOKENS = "\ntoken_embd."
_BLOCK = re.compile(r"(enc\.)?blk\.(\d+)\.(\w+)\.(weight|bias)")
_T5 = {
    **{f"attn_{x}": f"layer.0.SelfAttention.{x}" for x in "qkvo"},
    "attn_rel_b": "layer.0.SelfAttention.relative_attention_bias",
    "ffn_gate": "layer.1.DenseReluDense.wi_0",
    "ffn_up": "layer.1.DenseReluDense.wi_1",
    "ffn_down": "layer.1.DenseReluDense.wo",
}
_LANGUAGE = {
    **{f"attn_{x}": f"self_attn.{x}_proj" for x in "qkv"},
    **{f"attn_{x}_norm": f"self_attn.{x}_norm" for x in "qk"},
    "attn_norm": "input_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_OUTER = {"token_embd.weight": "embed_tokens.weight"}


def as_transformers(names: Names) -> Names:
    """The tensors under the names of transformers; none of a file that has other names."""
    if _TOKENS not in names.text:
        return Names({})
    return Names({_renamed(name): tensor for name, tensor in names.items()}, whole=names.whole)


def _renamed(name: str) -> str:
    block = _BLOCK.fullmatch(name)
    if block is None:
        return _OUTER.get(name, name)
    encoder, number, layer, part = block.groups()
    if encoder:
        return f"encoder.block.{number}.{_T5.get(layer, layer)}.{part}"
    return f"model.layers.{number}.{_LANGUAGE.get(layer, layer)}.{part}"
