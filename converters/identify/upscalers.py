"""Upscalers and restorers of pictures, by the names of their networks.

Source: chaiNNer-org/spandrel (the names each architecture is told by). A pickled module whose
class is stored with it is refused by the reader and never comes here.
"""

from __future__ import annotations

from converters.bases import Base
from converters.identify.conditions import (
    Condition,
    both,
    either,
    has_all,
    has_prefix,
    matching,
    no,
    shape,
)
from converters.identify.description import named
from converters.identify.row import Row
from converters.kinds import Kind

_SWIN = has_all("conv_first.weight", "layers.0.residual_group.blocks.0.norm1.weight")
_HAT = matching(r"^layers\.0\.residual_group\.blocks\.0\.conv_block\.")
_SWIN2 = matching(r"\.attn\.cpb_mlp\.")

ARCHITECTURES: tuple[tuple[str, Condition], ...] = (
    (
        "esrgan",
        either(
            has_all("conv_first.weight", "body.0.rdb1.conv1.weight"),
            has_all("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"),
            has_all("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"),
        ),
    ),
    ("compact", both(shape("body.0.weight", None, 3, 3, 3), shape("body.1.weight", None))),
    ("swinir", both(_SWIN, no(either(_HAT, _SWIN2)))),
    ("hat", both(_SWIN, _HAT)),
    ("swin2sr", both(_SWIN, _SWIN2)),
    ("dat", has_all("before_RG.1.weight", "conv_first.weight")),
    ("span", has_all("block_1.c1_r.sk.weight")),
    ("omnisr", both(has_all("input.weight"), has_prefix("residual_layer.0.residual_layer."))),
    ("plksr", has_all("feats.1.lk.conv.weight")),
    ("gfpgan", has_prefix("stylegan_decoder.")),
    ("codeformer", both(has_all("quantize.embedding.weight"), has_prefix("ft_layers."))),
    ("srgan", both(shape("block1.0.weight", None, 3, 9, 9), has_all("block2.conv1.weight"))),
    ("vdsr", has_all("residual_layer.0.conv.weight", "input.weight", "output.weight")),
)
"""Architecture, and what tells it."""

ROWS = tuple(
    Row(
        f"upscaler-{word}",
        when,
        named(
            Kind.UPSCALER,
            f"the network of {word}, which enlarges or restores pictures",
            base=Base.ANY,
            variants=((word, both()),),
        ),
    )
    for word, when in ARCHITECTURES
)
