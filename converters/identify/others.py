"""What lies beside models in people's folders and is none of the kinds that we manage.

Naming it keeps it from being taken for something else. Sources: ComfyUI `comfy/model_detection.py`
and `comfy/gligen.py`, CompVis safety checker, LAION-AI/aesthetic-predictor,
vicgalle/stable-diffusion-aesthetic-gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

from converters.identify import text_encoders
from converters.identify.conditions import (
    Condition,
    both,
    denoiser,
    either,
    ending,
    has_all,
    has_any,
    has_prefix,
    matching,
    shape,
)
from converters.identify.description import named
from converters.identify.names import Names
from converters.identify.row import Row
from converters.kinds import Kind


@dataclass(frozen=True, slots=True)
class _LayersTo1:
    """Linear layers alone, the first from an image embedding, the last to a single number."""

    def holds(self, names: Names) -> bool:
        widths = [t.shape for name, t in names.items() if name.endswith("weight")]
        only = all(name.split(".")[-1] in ("weight", "bias") for name in names)
        return (
            bool(widths)
            and only
            and len(names) <= 16
            and all(len(sizes) == 2 for sizes in widths)
            and widths[0][1] in (512, 768, 1024, 1280)
            and any(sizes[0] == 1 for sizes in widths)
        )


_AESTHETIC = both(
    either(has_all("weight", "bias"), has_all("linear.weight"), has_all("layers.0.weight")),
    _LayersTo1(),
)
_APPROXIMATION = both(
    either(shape("in_proj.weight", None, 3), shape("in_proj.weight", None, 4)),
    has_all("hidden_layers.0.weight", "out_proj.weight"),
)

KINDS: tuple[tuple[str, str, Condition], ...] = (
    (
        "aesthetic-gradient",
        "a bare image embedding, as aesthetic gradients are; a textual inversion names its token",
        either(shape("tensor", 1, 768), shape("tensor", 1, 1024)),
    ),
    (
        "prompt-encoding",
        "the encoding of a prompt, a row for each of 77 tokens",
        either(shape("tensor", 1, 77, None), shape("tensor", 77, None)),
    ),
    ("aesthetic-predictor", "linear layers to one number, as aesthetic predictors are", _AESTHETIC),
    ("vae-approximation", "a few layers between 3 colours and 4 latent channels", _APPROXIMATION),
    (
        "safety-checker",
        "special_care_embeds is a part of the safety checker of Stable Diffusion",
        ending("special_care_embeds"),
    ),
    (
        "gligen",
        "position_net beside gated attention, as in GLIGEN",
        both(has_prefix("position_net."), matching(r"\.fuser\.")),
    ),
    ("style-model", "style_embedding is a part of a style adapter", has_any("style_embedding")),
    (
        "flux-redux",
        "redux_up and redux_down are Redux, which tells Flux the style of a picture",
        has_all("redux_up.weight", "redux_down.weight"),
    ),
    (
        "image-projector",
        "the image half of a language model, as llama.cpp keeps it (mmproj)",
        has_all("v.blk.0.attn_q.weight", "v.patch_embd.weight"),
    ),
    (
        "clip-both-halves",
        "both halves of a CLIP-like model, text and image",
        both(
            has_all("logit_scale"),
            either(has_prefix("vision_model."), has_prefix("visual.")),
        ),
    ),
    (
        "captions",
        "not an image diffusion model: BLIP, which describes pictures",
        has_prefix("text_decoder.bert.", "qformer."),
    ),
    (
        "audio",
        "not an image diffusion model: a model of sounds (Stable Audio, ACE-Step)",
        denoiser(
            has_any(
                "transformer.rotary_pos_emb.inv_freq",
                "genre_embedder.weight",
                "encoder.lyric_encoder.layers.0.input_layernorm.weight",
            )
        ),
    ),
    (
        "shape-model",
        "not an image diffusion model: latent_in is that of Hunyuan3D",
        denoiser(has_all("latent_in.weight", "cond_in.weight")),
    ),
    (
        "segmentation",
        "not an image diffusion model: the image encoder of Segment Anything",
        has_any("image_encoder.neck.0.weight", "model.image_encoder.neck.0.weight"),
    ),
    (
        "training-state",
        "the state of an optimizer, not a model",
        either(ending("exp_avg"), ending("exp_avg_sq")),
    ),
    (
        "generator-state",
        "states of random number generators, as training writes beside a model",
        both(
            either(shape("cpu", 5056), shape("numpy.1", 624)),
            has_any("cpu", "cuda", "numpy.1"),
        ),
    ),
    (
        "merge-blocks",
        "one number for each block of a UNet: the weights of a merge, not a model",
        has_all("BASE", "IN00", "OUT00"),
    ),
)
"""Row name, the sentence that says what it is, and what tells it."""

_ALSO = {
    "clip-both-halves": text_encoders.NAMES,
    "safety-checker": text_encoders.NAMES,
    "gligen": frozenset({"unet"}),
}

ROWS = tuple(
    Row(name, when, named(Kind.OTHER, why), _ALSO.get(name, frozenset()))
    for name, why, when in KINDS
)
