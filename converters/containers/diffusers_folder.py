"""A diffusers pipeline folder as one model: the tensors of its components under their names.

`model_index.json` names the components; each has a folder with weights in one file or in several
with an index, for each of several variants. The scheduler's configuration says what the denoiser
predicts. Source: huggingface/diffusers `pipelines/pipeline_loading_utils.py`,
`utils/constants.py`, `schedulers/scheduling_euler_discrete.py`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from converters.bytesource import FileBytes
from converters.containers.model import Container, Model
from converters.containers.strict_json import BadJson, parse_object
from converters.errors import CorruptFile, FileProblem, FileUnreadable, UnsupportedFile
from converters.pickles.verdict import together
from converters.statedict import LazyTensor, StateDict

MODEL_INDEX = "model_index.json"
SCHEDULER = Path("scheduler", "scheduler_config.json")
VAE_CONFIG = Path("vae", "config.json")
MAX_JSON = 1 << 20
"""Bytes of a configuration; real ones have a thousandth."""

PREDICTION_KEY, ZERO_SNR_KEY = "modelspec.prediction_type", "diffusers.rescale_betas_zero_snr"
"""Metadata keys of what the scheduler says; the first as in Stability-AI/ModelSpec."""
EDM_DATA_KEY = "diffusers.edm_sigma_data"
EDM_LOWEST_KEY, EDM_HIGHEST_KEY = "diffusers.edm_sigma_min", "diffusers.edm_sigma_max"
"""The same of schedulers for EDM: deviation of the latents, and the ends of the noise."""
LATENTS_MEAN_KEY, LATENTS_STD_KEY = "diffusers.latents_mean", "diffusers.latents_std"
"""Those of what the VAE says of its latents beside such a scheduler: lists in JSON."""

_EDM_FIELDS = {
    EDM_DATA_KEY: "sigma_data",
    EDM_LOWEST_KEY: "sigma_min",
    EDM_HIGHEST_KEY: "sigma_max",
}
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v"}

_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_WITHOUT_WEIGHTS = re.compile(r"(?:Scheduler|Tokenizer|TokenizerFast|Processor|FeatureExtractor)$")
_COMPONENT = re.compile(r"[a-z][a-z0-9_]*")
_WEIGHTS = re.compile(
    rf"(?:{'|'.join(_STEMS)})(?:\.(?P<early>\w+))?\.(?P<kind>safetensors|bin)"
    r"(?P<index>(?:\.(?P<old>\w+))?\.index(?:\.(?P<late>\w+))?\.json)?"
)

_DENOISERS = ("unet", "transformer", "prior")

OpenFile = Callable[[Path], Model]


def is_pipeline(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a whole pipeline."""
    return os.path.isfile(os.path.join(folder, MODEL_INDEX))  # noqa: PTH113, PTH118  # never raise


def read_pipeline(folder: Path, open_file: OpenFile) -> Model:
    """Open a pipeline from the headers of its components; names are `<component>.<tensor>`.

    A component that cannot be opened is named in `problems`. Raises CorruptFile for a
    `model_index.json` that is none, UnsupportedFile when no component has weights.
    """
    parts: dict[str, Model] = {}
    problems: list[str] = []
    for name in _components(folder):
        try:
            parts[name] = open_file(_weights(folder / name))
        except FileProblem as error:
            problems.append(f"{name}: {error.cause}")
    if not parts:
        cause = f"no component of the pipeline can be read: {'; '.join(problems)}"
        raise UnsupportedFile(cause, path=folder)
    tensors: dict[str, LazyTensor] = {
        f"{name}.{key}": tensor
        for name, part in parts.items()
        for key, tensor in part.state_dict.items()
    }
    return Model(
        path=str(folder),
        nbytes=sum(part.nbytes for part in parts.values()),
        container=Container.DIFFUSERS,
        state_dict=StateDict(tensors, {**_texts(parts), **_scheduler_metadata(folder)}),
        safety=together({name: part.safety for name, part in parts.items()}),
        problems=(
            *problems,
            *(f"{name}: {problem}" for name, part in parts.items() for problem in part.problems),
        ),
    )


def _texts(parts: Mapping[str, Model]) -> Mapping[str, str]:
    """The metadata of the denoiser, which is that of the model."""
    denoiser = next((name for name in _DENOISERS if name in parts), None)
    return {} if denoiser is None else parts[denoiser].state_dict.metadata


def component_weights(folder: Path) -> Path | None:
    """The weights in the folder of a single component; None where there are none."""
    try:
        return _weights(folder)
    except FileProblem:
        return None


def _components(folder: Path) -> list[str]:
    """The components that should have weights, in the order of the index."""
    index = _configuration(folder / MODEL_INDEX)
    return [name for name, entry in index.items() if _has_weights(name, entry)]


def index_of(folder: Path) -> tuple[str, ...]:
    """The folders that a pipeline's index names, with weights or without. Raises CorruptFile."""
    index = _configuration(folder / MODEL_INDEX)
    return tuple(name for name, entry in index.items() if _is_component(name, entry))


def _scheduler_metadata(folder: Path) -> dict[str, str]:
    """What the schedule's configuration says of the weights; nothing where it cannot be read."""
    try:
        config = _configuration(folder / SCHEDULER)
    except FileProblem:
        return {}
    said: dict[str, str] = {}
    prediction = config.get("prediction_type")
    if isinstance(prediction, str) and prediction in _PREDICTIONS:
        said[PREDICTION_KEY] = _PREDICTIONS[prediction]
    if config.get("rescale_betas_zero_snr") is True:
        said[ZERO_SNR_KEY] = "true"
    return said | _edm_metadata(folder, config)


def _edm_metadata(folder: Path, scheduler: Mapping[str, object]) -> dict[str, str]:
    """What a schedule of EDM says, and the VAE beside it of its latents."""
    said = {
        key: str(float(number))
        for key, field in _EDM_FIELDS.items()
        if isinstance(number := scheduler.get(field), int | float)
    }
    if EDM_DATA_KEY not in said and EDM_HIGHEST_KEY not in said:
        return {}
    try:
        vae = _configuration(folder / VAE_CONFIG)
    except FileProblem:
        vae = {}
    for key, field in ((LATENTS_MEAN_KEY, "latents_mean"), (LATENTS_STD_KEY, "latents_std")):
        if isinstance(vae.get(field), list):
            said[key] = json.dumps(vae[field])
    return {**said, PREDICTION_KEY: "edm"}


def _configuration(path: Path) -> dict[str, object]:
    source = FileBytes(path)
    if source.size > MAX_JSON:
        raise CorruptFile(f"is longer than {MAX_JSON >> 20} MB", path=path)
    try:
        return parse_object(source.pread(0, source.size))
    except BadJson as error:
        raise CorruptFile(str(error), path=path) from None


def _has_weights(name: str, entry: object) -> bool:
    if not _is_component(name, entry):
        return False
    return isinstance(entry, list) and not _WITHOUT_WEIGHTS.search(entry[1])


def _is_component(name: str, entry: object) -> bool:
    if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[1], str):
        return False
    return bool(_COMPONENT.fullmatch(name))


def _weights(folder: Path) -> Path:
    """The file to open: safetensors before pickles, plain before variants, whole before shards."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        cause = error.strerror or str(error)
        raise FileUnreadable(f"cannot be opened: {cause}", path=folder) from error
    found = [match for name in names if (match := _WEIGHTS.fullmatch(name))]
    if not found:
        raise UnsupportedFile("has no weights", path=folder)
    return folder / min(found, key=_preference).group()


def _preference(match: re.Match[str]) -> tuple[bool, bool, str, bool]:
    parts: Mapping[str, str | None] = match.groupdict()
    variant = parts["early"] or parts["late"] or parts["old"] or ""
    return parts["kind"] == "bin", bool(variant), variant, parts["index"] is not None
