"""A whole model as a diffusers pipeline folder, which `from_pretrained` loads offline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.bases import Prediction
from converters.identify import Identity
from converters.layouts.components import UNET, VAE
from converters.layouts.pipeline import TRANSFORMER, ZERO_SNR_MARKER, Components
from converters.layouts.pipeline_configs import (
    TOKENIZERS,
    component_config,
    model_index,
    scheduler_config,
)
from converters.progress import SILENT, Progress
from converters.statedict import Plain, StateDict
from converters.writers.atomic import refuse_full, write_whole
from converters.writers.folder import AtomicFolder
from converters.writers.safetensors import layout_of, write_safetensors

_DENOISERS = (UNET, TRANSFORMER)
_WEIGHTS = dict.fromkeys((*_DENOISERS, VAE), "diffusion_pytorch_model.safetensors")
_TEXT_WEIGHTS = "model.safetensors"
OWN_NAMES = frozenset(
    {
        *("model_index.json", "scheduler", "unet", "transformer", "vae", "feature_extractor"),
        *("safety_checker", "image_encoder"),
        *(
            f"{part}{number}"
            for part in ("text_encoder", "tokenizer")
            for number in ("", "_2", "_3")
        ),
    }
)
"""What lies at the top of a pipeline's folder."""


@dataclass(frozen=True, slots=True)
class WrittenPipeline:
    """A pipeline that was written: its weights in bytes and tensors."""

    path: Path
    nbytes: int
    tensors: int


def pipeline_size(components: Components) -> int:
    """Bytes of the weights' files."""
    described = (_described(name, part) for name, part in components.parts.items())
    return sum(layout_of(part).nbytes for part in described)


def write_pipeline(
    components: Components,
    identity: Identity,
    target: Path,
    *,
    tokenizer: Mapping[str, Mapping[str, bytes]],
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> WrittenPipeline:
    """Write the folder whole or not at all; `tokenizer` are the files of each tokenizer by name.

    Raises UnsupportedFile for what diffusers has no pipeline for, WriteProblem for the target,
    FileProblem for a source.
    """
    base, parts = components.base, components.parts
    edm = components.edm if identity.prediction is Prediction.EDM else None
    index = model_index(base, identity.variant, parts, edm)
    snr = ZERO_SNR_MARKER in components.dropped
    refuse_full(target, pipeline_size(components))
    with AtomicFolder(target, OWN_NAMES, overwrite=overwrite) as folder:
        nbytes = 0
        for name, part in parts.items():
            nbytes += write_component(folder.path / name, part, progress)
            config = component_config(base, name, part, edm)
            _write_json(folder.path / name / "config.json", config)
            for file, data in tokenizer.get(TOKENIZERS.get(name, ""), {}).items():
                write_whole(folder.path / TOKENIZERS[name] / file, data)
        scheduler = scheduler_config(base, identity.prediction, edm, zero_terminal_snr=snr)
        _write_json(folder.path / "scheduler" / "scheduler_config.json", scheduler)
        _write_json(folder.path / "model_index.json", index)
        folder.commit()
    return WrittenPipeline(target, nbytes, sum(map(len, parts.values())))


def write_component(folder: Path, part: StateDict, progress: Progress) -> int:
    """The weights in the folder of a component, which has its name; how many bytes they are."""
    name = folder.name
    place = folder / _WEIGHTS.get(name, _TEXT_WEIGHTS)
    described = _described(name, part)
    return write_safetensors(described, place, with_hashes=False, progress=progress).nbytes


def _described(name: str, part: StateDict) -> StateDict:
    """The texts of the model lie in its denoiser; transformers insists on a format in all files."""
    texts = part.metadata if name in _DENOISERS else {}
    return StateDict(part.tensors, {**texts, "format": "pt"})


def _write_json(path: Path, document: Mapping[str, Plain]) -> None:
    write_whole(path, (json.dumps(document, indent=2) + "\n").encode())
