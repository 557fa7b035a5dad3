"""What a denoiser predicts, where its shapes leave it open.

Sources: ComfyUI `comfy/supported_models.py` (marker tensors of SDXL, inputs of SD2),
kohya-ss/sd-scripts `train_network.py` and `library/sai_model_spec.py` (metadata),
invoke-ai/InvokeAI and huggingface/diffusers `convert_from_ckpt` (`global_step` of SD2 releases).
"""

from __future__ import annotations

from collections.abc import Mapping

from converters.bases import Base, Prediction
from converters.extras import file_extras
from converters.identify.families import Family
from converters.identify.names import Names
from converters.identify.unet_facts import unet_facts
from converters.layouts.pipeline import V_MARKER, ZERO_SNR_MARKER
from converters.statedict import StateDict

_Answer = tuple[Prediction, tuple[str, ...]]

MARKERS = (
    ("edm_vpred.sigma_max", Prediction.EDM),
    ("edm_mean", Prediction.EDM),
    (V_MARKER, Prediction.V),
)
"""Marker tensors of SDXL checkpoints, the strongest first."""

_STATED = {
    "epsilon": Prediction.EPSILON,
    "eps": Prediction.EPSILON,
    "v": Prediction.V,
    "v_prediction": Prediction.V,
    "edm": Prediction.EDM,
}
_ARCHITECTURES = {
    "stable-diffusion-v2-512": Prediction.EPSILON,
    "stable-diffusion-v2-768-v": Prediction.V,
}
_STEPS = {220_000: Prediction.EPSILON, 875_000: Prediction.EPSILON, 110_000: Prediction.V}
"""Training steps stored in the released SD2 checkpoints."""

OPEN_FAMILIES = (Base.SD1, Base.SD2, Base.SDXL, Base.SDXL_REFINER)
"""Families of which fine-tunes with another prediction exist."""


def prediction_of(sd: StateDict, family: Family) -> _Answer:
    """The prediction of a denoiser of this family, and the sentences that say why."""
    if family.base not in OPEN_FAMILIES:
        return family.prediction, ()
    rules = (*_STATEMENTS, _by_steps, _by_inputs)
    answers = (answer for rule in rules for answer in [rule(sd, family.base)] if answer is not None)
    return next(answers, (family.prediction, _silence(family)))


def _silence(family: Family) -> tuple[str, ...]:
    if family.base is not Base.SD2:
        return ()
    return ("nothing in the file tells whether this SD2 predicts noise (epsilon) or v",)


def is_stated(sd: StateDict, base: Base) -> bool:
    """Whether a marker or the metadata say what a denoiser of this family predicts."""
    return any(rule(sd, base) is not None for rule in _STATEMENTS)


def _by_marker(sd: StateDict, base: Base) -> _Answer | None:
    if base is not Base.SDXL:
        return None
    marker = next(((name, meaning) for name, meaning in MARKERS if name in sd), None)
    if marker is None:
        return None
    name, meaning = marker
    snr = f", {ZERO_SNR_MARKER} a schedule with zero terminal SNR" if ZERO_SNR_MARKER in sd else ""
    return meaning, (f"the tensor {name} marks {meaning} prediction{snr}",)


def _by_metadata(sd: StateDict, _: Base) -> _Answer | None:
    for key, meaning in _statements(sd.metadata):
        if meaning is not None:
            return meaning, (f"{key} says {meaning} prediction",)
    return None


def _statements(metadata: Mapping[str, str]) -> tuple[tuple[str, Prediction | None], ...]:
    def stated(key: str, words: Mapping[str, Prediction]) -> tuple[str, Prediction | None]:
        return key, words.get(metadata.get(key, "").strip().lower())

    return (
        stated("modelspec.prediction_type", _STATED),
        stated("modelspec.architecture", _ARCHITECTURES),
        stated("ss_model_prediction_type", _STATED),
        stated("ss_v_parameterization", {"true": Prediction.V, "false": Prediction.EPSILON}),
    )


_STATEMENTS = (_by_marker, _by_metadata)
"""What is said outright; steps and inputs only suggest it."""


def _by_steps(sd: StateDict, base: Base) -> _Answer | None:
    steps = file_extras(sd).get("global_step")
    if base is not Base.SD2 or not isinstance(steps, int) or steps not in _STEPS:
        return None
    meaning = _STEPS[steps]
    return meaning, (f"global_step {steps} is that of an SD2 release with {meaning} prediction",)


def _by_inputs(sd: StateDict, base: Base) -> _Answer | None:
    """SD2 that takes more than the noise was trained from the 512 base, which predicts epsilon."""
    channels = Names(sd).denoiser.once(unet_facts).in_channels
    if base is not Base.SD2 or channels in (4, None):
        return None
    return Prediction.EPSILON, (f"SD2 with {channels} input channels predicts noise (epsilon)",)
