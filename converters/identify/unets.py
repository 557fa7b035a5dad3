"""UNet families: told apart by widths and depths alone.

Sources: ComfyUI `comfy/model_detection.py` and `comfy/supported_models.py`, Stability-AI/
generative-models configurations, leejet/stable-diffusion.cpp `src/model_loader.cpp` (tiny ones).
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.bases import Base, Prediction
from converters.identify.conditions import ALWAYS, both, has_all, has_any, no, whole_file
from converters.identify.families import Family, Variants
from converters.identify.names import Names
from converters.identify.unet_facts import unet_facts

ANY_UNET = "unet"
"""Name of the row that takes the UNets of no known family."""


@dataclass(frozen=True, slots=True)
class UNet:
    """A UNet of these sizes: see `UNetFacts`. `depth` bounds the deepest transformer."""

    context: int | None = None
    adm: int | None = None
    linear: bool = True
    depth: tuple[int, int] = (1, 1)
    video: bool = False
    classes: bool = False

    def holds(self, names: Names) -> bool:
        """Whether the names are of such a UNet."""
        facts = names.once(unet_facts)
        least, greatest = self.depth
        return facts.layout is not None and (
            (facts.context, facts.adm, facts.linear, facts.video, facts.classes)
            == (self.context, self.adm, self.linear, self.video, self.classes)
            and least <= facts.deepest <= greatest
        )


@dataclass(frozen=True, slots=True)
class AnyUNet:
    """Any UNet, under LDM or diffusers names."""

    def holds(self, names: Names) -> bool:
        """Whether the names are of one."""
        return names.once(unet_facts).layout is not None


@dataclass(frozen=True, slots=True)
class Takes:
    """The UNet takes so many input channels."""

    channels: int

    def holds(self, names: Names) -> bool:
        """Whether it does."""
        return names.once(unet_facts).in_channels == self.channels


@dataclass(frozen=True, slots=True)
class Depths:
    """Transformer blocks beside each residual block on the way down; no transformer in between."""

    depths: tuple[int, ...]

    def holds(self, names: Names) -> bool:
        """Whether the UNet has these."""
        return names.once(unet_facts).depths == self.depths


@dataclass(frozen=True, slots=True)
class _Tiny:
    """No blocks in the middle, and one residual block per level."""

    def holds(self, names: Names) -> bool:
        one_layer = "input_blocks.2.0.op.weight", "down_blocks.0.resnets.0.conv1.weight"
        return (
            not names.once(unet_facts).middle
            and any(name in names for name in one_layer)
            and "down_blocks.0.resnets.1.conv1.weight" not in names
        )


_INPUTS: Variants = (
    ("inpaint", Takes(9)),  # 4 noise + 1 mask + 4 masked image
    ("pix2pix", Takes(8)),  # 4 noise + 4 picture
)
_DEPTH: Variants = (("depth", Takes(5)),)
_NO_LAST_ATTENTION = both(
    has_all("output_blocks.7.0.in_layers.2.weight"), no(has_any("output_blocks.7.1.norm.weight"))
)
_SMALL: Variants = (("sdxs", both(_Tiny(), _NO_LAST_ATTENTION)), ("tiny", _Tiny()))
_PLAYGROUND = whole_file(has_all("edm_mean", "edm_std"))
_SDXL: Variants = (
    *_INPUTS,
    ("playground-v2.5", _PLAYGROUND),
    ("ssd-1b", Depths((0, 0, 2, 2, 4, 4))),
    ("vega", Depths((0, 0, 1, 1, 2, 2))),
    ("koala-700m", Depths((0, 2, 5))),
    ("koala-1b", Depths((0, 2, 6))),
)
_ZERO123 = whole_file(has_any("cc_projection.weight"))


def _unet(
    name: str, base: Base, when: UNet, prediction: Prediction, *, variants: Variants = ()
) -> Family:
    return Family(
        name,
        base,
        when=when,
        variants=variants,
        prediction=prediction,
        beats=frozenset({ANY_UNET}),
    )


_EPSILON, _UNKNOWN = Prediction.EPSILON, Prediction.UNKNOWN

UNETS = (
    _unet(
        "sd-1",
        Base.SD1,
        UNet(context=768, linear=False),
        _EPSILON,
        variants=(("zero123", both(Takes(8), _ZERO123)), *_INPUTS, *_SMALL),
    ),
    # Shapes do not tell whether an SD2 predicts noise or velocity.
    _unet("sd-2", Base.SD2, UNet(context=1024), _UNKNOWN, variants=(*_INPUTS, *_DEPTH, *_SMALL)),
    _unet(
        "sd-2-convolutions",  # old exports keep the projections as 1x1 convolutions
        Base.SD2,
        UNet(context=1024, linear=False),
        _UNKNOWN,
        variants=_INPUTS,
    ),
    _unet(
        "sd-2-unclip-l",
        Base.SD2,
        UNet(context=1024, adm=1536),
        _UNKNOWN,
        variants=(("unclip-l", ALWAYS),),
    ),
    _unet(
        "sd-2-unclip-h",
        Base.SD2,
        UNet(context=1024, adm=2048),
        _UNKNOWN,
        variants=(("unclip-h", ALWAYS),),
    ),
    _unet(
        "sdxl",
        Base.SDXL,
        UNet(context=2048, adm=2816, depth=(1, 10)),
        _EPSILON,
        variants=_SDXL,
    ),
    _unet(
        "sdxl-convolutions",  # so stable-diffusion.cpp stores the projections
        Base.SDXL,
        UNet(context=2048, adm=2816, linear=False, depth=(1, 10)),
        _EPSILON,
        variants=_SDXL,
    ),
    _unet("kolors", Base.KOLORS, UNet(context=2048, adm=5632, depth=(1, 10)), _EPSILON),
    _unet(
        "sdxl-refiner",
        Base.SDXL_REFINER,
        UNet(context=1280, adm=2560, depth=(1, 4)),
        _EPSILON,
    ),
    _unet("sd-x4-upscaler", Base.SD_UPSCALER, UNet(context=1024, classes=True), Prediction.V),
    _unet("svd", Base.SVD, UNet(context=1024, adm=768, video=True), Prediction.EDM),
    _unet(
        "sv3d-u",
        Base.SV3D,
        UNet(context=1024, adm=256, video=True),
        Prediction.EDM,
        variants=(("u", ALWAYS),),
    ),
    _unet(
        "sv3d-p",
        Base.SV3D,
        UNet(context=1024, adm=1280, video=True),
        Prediction.EDM,
        variants=(("p", ALWAYS),),
    ),
    _unet("lotus", Base.LOTUS, UNet(context=1024, adm=4), _UNKNOWN),
    _unet("lotus-without-text", Base.LOTUS, UNet(adm=4, depth=(0, 1)), _UNKNOWN),
)
