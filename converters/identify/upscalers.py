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
    has_any,
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
_GROUPS = has_all("before_RG.1.weight", "conv_first.weight")
_RGT = has_any("layers.0.blocks.0.gamma")
_DRUNET = has_all("m_head.weight", "m_down1.0.res.0.weight", "m_tail.weight")
_FBCNN = has_any("qf_pred.0.res.0.weight")

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
    ("dat", both(_GROUPS, no(_RGT))),
    ("rgt", both(_GROUPS, _RGT)),
    ("atd", has_all("conv_first.weight", "layers.0.residual_group.layers.0.attn_atd.scale")),
    ("drct", has_all("conv_first.weight", "layers.0.swin1.norm1.weight")),
    ("grl", has_all("conv_first.weight", "norm_start.weight", "norm_end.weight")),
    ("craft", has_all("layers.0.residual_group.hf_blocks.0.attn.temperature")),
    ("mosr", has_all("gblocks.0.weight", "gblocks.1.fc1.weight")),
    ("moesr", has_all("in_to_dim.weight", "blocks.0.blocks.0.gamma")),
    ("real-cugan", has_all("unet1.conv1.conv.0.weight", "unet2.conv1.conv.0.weight")),
    ("scunet", has_all("m_head.0.weight", "m_tail.0.weight")),
    ("drunet", both(_DRUNET, no(_FBCNN))),
    ("fbcnn", both(_DRUNET, _FBCNN)),
    ("nafnet", has_all("intro.weight", "ending.weight", "middle_blks.0.beta")),
    ("safmn", has_all("to_feat.weight", "feats.0.safm.aggr.weight")),
    ("seemore", has_all("conv_1.weight", "body.0.local_block.norm_1.weight")),
    ("rcan", has_all("tail.1.weight", "body.0.body.0.body.3.conv_du.0.weight")),
    ("swift-srgan", has_all("initial.cnn.depthwise.weight", "final_conv.pointwise.weight")),
    (
        "aura-sr",
        has_all("mid_attn.layers.0.0.to_out.weight", "final_res_block.block1.proj.weights"),
    ),
    ("lama", has_any("model.model.1.bn_l.running_mean", "generator.model.1.bn_l.running_mean")),
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
