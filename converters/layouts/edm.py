"""SDXL models trained on continuous levels of noise (EDM): Playground v2.5, CosXL.

Sources: arXiv 2206.00364 (EDM); ComfyUI `comfy/supported_models.py` (marker tensors and levels of
both); the schedulers and the VAE's configuration of playgroundai/playground-v2.5-1024px-aesthetic,
and those for CosXL in huggingface/diffusers `schedulers/scheduling_edm_euler.py`.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from converters.containers.diffusers_folder import (
    EDM_DATA_KEY,
    EDM_HIGHEST_KEY,
    EDM_LOWEST_KEY,
    LATENTS_MEAN_KEY,
    LATENTS_STD_KEY,
    PREDICTION_KEY,
)
from converters.dtypes import DType
from converters.errors import CorruptFile
from converters.statedict import LazyTensor, Plain, StateDict

EDM_MEAN, EDM_STD = "edm_mean", "edm_std"
"""Tensors of Playground v2.5: mean and deviation of the latents, by channel."""
EDM_LOWEST, EDM_HIGHEST = "edm_vpred.sigma_min", "edm_vpred.sigma_max"
"""Tensors of CosXL: the levels of noise it was trained between."""

_LATENT_CHANNELS = 4
_FORMS = {DType.F16: "e", DType.F32: "f", DType.F64: "d", DType.BF16: "f"}
"""How `struct` reads a type; what of bfloat16 is cut off is put back first."""

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Edm:
    """What a network trained in the terms of EDM takes for granted.

    `data` is the standard deviation of the latents, `spread` how the levels of a render are spread
    (`karras` or `exponential`), `prediction` and `scheduler` are words of diffusers. `mean` and
    `deviation` normalise the latents by channel where the model has them.
    """

    lowest: float
    highest: float
    data: float
    spread: str
    prediction: str
    scheduler: str
    mean: Numbers = ()
    deviation: Numbers = ()


PLAYGROUND = Edm(
    lowest=0.002,
    highest=80.0,
    data=0.5,
    spread="karras",
    prediction="epsilon",
    scheduler="EDMDPMSolverMultistepScheduler",
    mean=(-1.6574, 1.886, -1.383, 2.5155),
    deviation=(8.4927, 5.9022, 6.5498, 5.2299),
)
COSXL = Edm(
    lowest=0.002,
    highest=120.0,
    data=1.0,
    spread="exponential",
    prediction="v_prediction",
    scheduler="EDMEulerScheduler",
)


def edm_of(state: StateDict) -> Edm:
    """What a single file that predicts in the terms of EDM says of its training.

    CosXL's figures stand for what it leaves open. Raises CorruptFile for figures that are none.
    """
    if EDM_MEAN in state:
        mean, deviation = (_by_channel(state, name) for name in (EDM_MEAN, EDM_STD))
        return replace(PLAYGROUND, mean=mean, deviation=deviation)
    lowest = _level(state, EDM_LOWEST, COSXL.lowest)
    highest = _level(state, EDM_HIGHEST, COSXL.highest)
    if not 0 < lowest < highest:
        raise CorruptFile(f"has no levels of noise from {lowest:g} to {highest:g} ({EDM_HIGHEST})")
    return replace(COSXL, lowest=lowest, highest=highest)


def edm_markers(metadata: Mapping[str, str]) -> dict[str, LazyTensor]:
    """The tensors of a single file for what a folder's scheduler says.

    Playground v2.5 is known by the deviation of its latents, which is one half.
    """
    if metadata.get(PREDICTION_KEY) != "edm":
        return {}
    if metadata.get(EDM_DATA_KEY) == "0.5":
        mean, deviation = (
            _told(metadata.get(key, ""), _LATENT_CHANNELS)
            for key in (LATENTS_MEAN_KEY, LATENTS_STD_KEY)
        )
        return {
            EDM_MEAN: _tensor(mean or PLAYGROUND.mean, (_LATENT_CHANNELS,)),
            EDM_STD: _tensor(deviation or PLAYGROUND.deviation, (_LATENT_CHANNELS,)),
        }
    keys = {EDM_LOWEST: EDM_LOWEST_KEY, EDM_HIGHEST: EDM_HIGHEST_KEY}
    levels = {name: _told(f"[{metadata.get(key)}]", 1) for name, key in keys.items()}
    if not levels[EDM_HIGHEST]:
        return {}
    return {name: _tensor(numbers, ()) for name, numbers in levels.items() if numbers}


def edm_scheduler(edm: Edm) -> dict[str, Plain]:
    """The configuration of its scheduler, without what names class and version."""
    return {
        "sigma_min": edm.lowest,
        "sigma_max": edm.highest,
        "sigma_data": edm.data,
        "sigma_schedule": edm.spread,
        "prediction_type": edm.prediction,
    }


def latent_statistics(edm: Edm) -> dict[str, Plain]:
    """What the VAE's configuration says of its latents, where the model normalises them."""
    if not edm.mean:
        return {}
    return {
        "latents_mean": list(edm.mean),
        "latents_std": list(edm.deviation),
        "scaling_factor": edm.data,
    }


def _by_channel(state: StateDict, name: str) -> Numbers:
    numbers = _stored(state[name]) if name in state else ()
    if len(numbers) != _LATENT_CHANNELS or not all(map(math.isfinite, numbers)):
        raise CorruptFile(f"{name} does not hold {_LATENT_CHANNELS} finite numbers")
    return numbers


def _level(state: StateDict, name: str, usual: float) -> float:
    if name not in state:
        return usual
    numbers = _stored(state[name])
    if len(numbers) != 1 or not math.isfinite(numbers[0]):
        raise CorruptFile(f"{name} does not hold a finite number")
    return numbers[0]


def _stored(tensor: LazyTensor) -> Numbers:
    """The numbers of a small tensor; none where it is larger or not of real numbers."""
    if tensor.dtype not in _FORMS or tensor.numel > _LATENT_CHANNELS:
        return ()
    data = bytes(tensor.read())
    if tensor.dtype is DType.BF16:
        data = b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
    return tuple(map(_shortest, struct.unpack(f"<{tensor.numel}{_FORMS[tensor.dtype]}", data)))


def _shortest(number: float) -> float:
    """The number with the fewest decimal digits that is the same in float32."""
    try:
        packed = struct.pack("<f", number)
    except OverflowError:
        return number
    spelled = (float(f"{number:.{digits}g}") for digits in range(6, 9))
    return next((each for each in spelled if struct.pack("<f", each) == packed), number)


def _told(text: str, count: int) -> Numbers:
    """The numbers of a list in JSON; none where it is no list of so many that float32 holds."""
    try:
        numbers = tuple(map(float, json.loads(text)))
    except (ValueError, TypeError, OverflowError):
        return ()
    held = all(abs(number) <= DType.F32.largest for number in numbers)
    return numbers if held and len(numbers) == count else ()


def _tensor(values: Numbers, shape: tuple[int, ...]) -> LazyTensor:
    """A tensor of these numbers, which no file holds."""
    pack = partial(struct.pack, f"<{len(values)}f", *values)
    return LazyTensor(DType.F32, shape, pack, "made up")
