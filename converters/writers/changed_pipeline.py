"""A diffusers pipeline's folder again, with other weights in its components.

What `model_index.json` names is written or copied: configurations, tokenizers and the weights that
cannot be read here as they are; what else lies in a repository's folder is left out.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from converters.containers.diffusers_folder import MODEL_INDEX, index_of
from converters.layouts.pipeline import pipeline_parts
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.writers.atomic import naming, refuse_full
from converters.writers.diffusers_folder import OWN_NAMES, WrittenPipeline, write_component
from converters.writers.folder import AtomicFolder
from converters.writers.safetensors import layout_of

_WEIGHTS = re.compile(
    r".*\.(?:safetensors|bin|ckpt|pt|msgpack|h5|onnx|onnx_data|gguf)|.*\.index(?:\.\w+)?\.json"
)
"""Files that hold weights, in any form, or tell which of several do."""


def changed_pipeline_size(state: StateDict) -> int:
    """Bytes of the weights' files."""
    return sum(layout_of(part).nbytes for part in pipeline_parts(state).values())


def write_changed_pipeline(
    source: Path,
    state: StateDict,
    target: Path,
    *,
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> WrittenPipeline:
    """Write the folder `source` whole, or not at all, with the tensors `<component>.<tensor>`.

    The metadata go to the denoiser's file. Raises WriteProblem for the target, FileProblem for a
    source.
    """
    parts = pipeline_parts(state)
    refuse_full(target, changed_pipeline_size(state))
    with AtomicFolder(target, OWN_NAMES, overwrite=overwrite) as folder:
        _copy(source / MODEL_INDEX, folder.path / MODEL_INDEX)
        for file in _kept(source, parts.keys()):
            _copy(file, folder.path / file.relative_to(source))
        nbytes = sum(
            write_component(folder.path / name, part.with_metadata(state.metadata), progress)
            for name, part in parts.items()
        )
        folder.commit()
    return WrittenPipeline(target, nbytes, len(state))


def _kept(source: Path, written: Collection[str]) -> Iterator[Path]:
    """The files of all components, without the weights of those that are written."""
    for name in index_of(source):
        for file in sorted((source / name).rglob("*")):
            is_old = name in written and _WEIGHTS.fullmatch(file.name)
            if file.is_file() and not is_old:
                yield file


def _copy(file: Path, target: Path) -> None:
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
