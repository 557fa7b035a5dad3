"""The encoder of T5: its names are the same everywhere, its configuration follows from the shapes.

Source: transformers `models/t5`. The decoder of a whole T5 has no use here and is left out.
"""

from __future__ import annotations

import re

from converters.errors import CorruptFile
from converters.statedict import Plain, StateDict

SHARED, EMBEDDED = "shared.weight", "encoder.embed_tokens.weight"
"""The two names of the token embedding; files hold one of them or both."""

_FIRST = "encoder.block.0.layer.0.SelfAttention"
_FORWARD = "encoder.block.0.layer.1.DenseReluDense"
_LAYER = re.compile(r"encoder\.block\.(\d{1,6})\.")


def t5_to_transformers(sd: StateDict) -> StateDict:
    """The encoder (names without prefix) as T5EncoderModel has it, the embedding under both names.

    Raises CorruptFile when the token embedding is missing.
    """
    shared = sd.get(SHARED) or sd.get(EMBEDDED)
    if shared is None:
        raise CorruptFile(f"the T5 encoder lacks {SHARED}")
    encoder = sd.select(lambda name: name.startswith("encoder."))
    return encoder.overlay({SHARED: shared, EMBEDDED: shared})


def t5_config(sd: StateDict) -> dict[str, Plain]:
    """The arguments of T5Config for an encoder as `t5_to_transformers` names it.

    Raises CorruptFile where tensors that tell them are missing.
    """
    gated = f"{_FORWARD}.wi_1.weight" in sd
    bias = f"{_FIRST}.relative_attention_bias.weight"
    heads = _size(sd, bias, 1)
    layers = max((int(m[1]) + 1 for name in sd if (m := _LAYER.match(name))), default=0)
    return {
        "vocab_size": _size(sd, SHARED, 0),
        "d_model": _size(sd, SHARED, 1),
        "d_kv": _size(sd, f"{_FIRST}.q.weight", 0) // max(1, heads),
        "d_ff": _size(sd, f"{_FORWARD}.{'wi_0' if gated else 'wi'}.weight", 0),
        "num_layers": min(layers, len(sd)),
        "num_heads": heads,
        "relative_attention_num_buckets": _size(sd, bias, 0),
        "feed_forward_proj": "gated-gelu" if gated else "relu",
        "is_encoder_decoder": False,
        "use_cache": False,
    }


def _size(sd: StateDict, name: str, axis: int) -> int:
    tensor = sd.get(name)
    if tensor is None or axis >= len(tensor.shape):
        raise CorruptFile(f"the T5 encoder lacks {name}, or its shape is wrong")
    return tensor.shape[axis]
