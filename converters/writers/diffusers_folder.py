"""A whole model as a diffusers pipeline folder, which `from_pretrained` loads offline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from converters.bases import Prediction
from converters.identify import Identity
from converters.layouts.components import UNET, VAE
from converters.layouts.pipeline import ZERO_SNR_MARKER, Components
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

_WEIGHTS = {UNET: "diffusion_pytorch_model.safetensors", VAE: "diffusion_pytorch_model.safetensors"}
_TEXT_WEIGHTS = "model.safetensors"


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
    with AtomicFolder(target, overwrite=overwrite) as folder:
        nbytes = 0
        for name, part in parts.items():
            place = folder.path / name / _WEIGHTS.get(name, _TEXT_WEIGHTS)
            written = write_safetensors(
                _described(name, part), place, with_hashes=False, progress=progress
            )
            nbytes += written.nbytes
            _write_json(place.with_name("config.json"), component_config(base, name, part, edm))
            for file, data in tokenizer.get(TOKENIZERS.get(name, ""), {}).items():
                write_whole(folder.path / TOKENIZERS[name] / file, data)
        scheduler = scheduler_config(base, identity.prediction, edm, zero_terminal_snr=snr)
        _write_json(folder.path / "scheduler" / "scheduler_config.json", scheduler)
        _write_json(folder.path / "model_index.json", index)
        folder.commit()
    return WrittenPipeline(target, nbytes, sum(map(len, parts.values())))


def _described(name: str, part: StateDict) -> StateDict:
    """The texts of the model lie in its denoiser; transformers insists on a format in all files."""
    texts = part.metadata if name == UNET else {}
    return StateDict(part.tensors, {**texts, "format": "pt"})


def _write_json(path: Path, document: Mapping[str, Plain]) -> None:
    write_whole(path, (json.dumps(document, indent=2) + "\n").encode())
