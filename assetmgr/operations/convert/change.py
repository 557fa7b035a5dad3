"""What a conversion does to the tensors of a file: one description for all interfaces."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from converters.containers import open_model
from converters.containers.diffusers_folder import PREDICTION_KEY
from converters.dtypes import DType
from converters.errors import BadValue, WrongFamily, naming
from converters.identify import Kind, identify
from converters.identify.adapter_keys import component_of_key
from converters.layouts.components import component_of
from converters.layouts.pipeline import V_MARKER, markers
from converters.statedict import Plain, StateDict
from converters.transform.cast import CastLog, OnOverflow, cast
from converters.transform.components import (
    SELECTABLE,
    bake_vae,
    extract_component,
    select_components,
)
from converters.transform.ema import EmaChoice, apply_ema
from converters.transform.layout import relayout
from converters.transform.prune import prune
from converters.transform.quantise import QUANTISERS
from converters.transform.quantised_weights import unscaled

DTYPES: dict[str, DType | None] = {
    "keep": None,
    "fp32": DType.F32,
    "fp16": DType.F16,
    "bf16": DType.BF16,
    "fp8_e4m3fn": DType.F8_E4M3,
    "fp8_e5m2": DType.F8_E5M2,
}
"""The contract's words for precisions."""
QUANTISED = {word.lower(): word for word in QUANTISERS}
"""Precisions that only GGUF has, and ggml's names for them."""

PREDICTIONS = ("epsilon", "v")
"""What a user may say that a denoiser predicts."""


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to the tensors.

    `dtype` is a key of DTYPES or QUANTISED; `components` empty means all; `vae` is a file whose VAE
    replaces the checkpoint's; `prediction` a key of PREDICTIONS, for files that do not say it
    themselves; `extract` the one component that becomes a file of its own; `layout` one of LAYOUTS.
    """

    dtype: str = "keep"
    ema: EmaChoice = EmaChoice.KEEP
    prune: bool = False
    on_overflow: OnOverflow = OnOverflow.KEEP
    components: tuple[str, ...] = ()
    vae: Path | None = None
    prediction: str | None = None
    extract: str | None = None
    layout: str | None = None

    def check(self) -> None:
        """Raises BadValue for words that mean nothing."""
        for name in self.components:
            if name not in SELECTABLE:
                raise BadValue(f"no component '{name}'; there are {', '.join(SELECTABLE)}")

    @property
    def operation(self) -> str:
        """The word for it in the lineage."""
        return "convert" if self.extract is None else "extract"

    def parameters(self) -> dict[str, Plain]:
        """As recorded in the lineage: what can change the result."""
        recorded: dict[str, Plain] = {
            "dtype": self.dtype,
            "ema": self.ema.value,
            "prune": self.prune,
        }
        if DTYPES.get(self.dtype) is not None:
            recorded["on_overflow"] = self.on_overflow.value
        if self.components:
            recorded["components"] = list(self.components)
        if self.vae is not None:
            recorded["vae"] = self.vae.name
        if self.prediction is not None:
            recorded["prediction"] = self.prediction
        if self.extract is not None:
            recorded["component"] = self.extract
        if self.layout is not None:
            recorded["layout"] = self.layout
        return recorded


def restructured(state: StateDict, change: Change) -> tuple[StateDict, tuple[str, ...]]:
    """The tensors in their stored types after all but the cast; and the names that were dropped.

    Raises UnsupportedFile for averages or components that are not there, and for a VAE that does
    not fit; WrongFamily and FileProblem for its file.
    """
    scales: tuple[str, ...] = ()
    if change.dtype != "keep":  # in another precision the scales of fp8 would not be applied
        whole, state = state, unscaled(state)
        scales = tuple(name for name in whole if name not in state)
    state, averages = apply_ema(state, change.ema)
    state, training = prune(state) if change.prune else (state, ())
    if change.vae is not None:
        with naming(change.vae):
            state = bake_vae(state, _vae_of(change.vae))
    unwanted: tuple[str, ...] = ()
    if change.components:
        is_adapter = identify(state).kind is Kind.LORA
        of = component_of_key if is_adapter else component_of
        state, unwanted = select_components(state, change.components, of)
    if change.prediction is not None:
        state = _declared(state, change.prediction)
    if change.extract is not None:
        state = extract_component(state, change.extract)
    if change.layout is not None:
        state = relayout(state, identify(state), change.layout)
    return state, (*scales, *averages, *training, *unwanted)


def _vae_of(path: Path) -> StateDict:
    state = open_model(path).state_dict
    kind = identify(state).kind
    if kind not in (Kind.VAE, Kind.UNKNOWN):
        raise WrongFamily(f"is of kind {kind}, not a VAE")
    return state


def _declared(state: StateDict, prediction: str) -> StateDict:
    """With metadata, and for SDXL a marker, that say what the denoiser predicts."""
    said = state.with_metadata({**state.metadata, PREDICTION_KEY: prediction})
    plain = said.drop({V_MARKER})
    return plain.overlay(markers(identify(plain).base, plain.metadata))


def recast(
    state: StateDict, change: Change, exempt: Collection[str] = (), log: CastLog | None = None
) -> StateDict:
    """The tensors in the precision asked for, but for the `exempt` names.

    Blocks of GGUF are made by its writer.
    """
    dtype = DTYPES.get(change.dtype)
    if dtype is None:
        return state
    clamp = change.on_overflow is OnOverflow.CLAMP
    return cast(state, dtype, clamp=clamp, exempt=exempt, log=log)
