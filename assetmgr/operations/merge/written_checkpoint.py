"""What a merge makes: a single file, or a folder as a pipeline with a transformer is one."""

from __future__ import annotations

from pathlib import Path

from converters.errors import BadValue, TargetExists
from converters.hashing import FileHashes
from converters.progress import Progress
from converters.statedict import StateDict
from converters.writers.atomic import refuse_existing
from converters.writers.changed_pipeline import changed_pipeline_size, write_changed_pipeline
from converters.writers.safetensors import layout_of, write_safetensors

_SUFFIX = ".safetensors"


def require_checkpoint_target(output: Path, folder: Path | None, *, overwrite: bool) -> None:
    """Raises TargetExists, BadValue for the name of a file where a folder is to be.

    `folder` is the pipeline whose folder the target is to be like, None for a single file.
    """
    if folder is not None and output.suffix == _SUFFIX:
        raise BadValue(
            f"ends in {_SUFFIX}, but a pipeline with a transformer becomes a folder", path=output
        )
    if folder is None or not output.is_dir():
        refuse_existing(output, overwrite=overwrite)
    elif not overwrite:  # else its writer looks at what is in it
        raise TargetExists("already exists", path=output, hint="use --overwrite to replace it")


def checkpoint_size(state: StateDict, folder: Path | None) -> int:
    """Bytes of the file, or of the weights' files in the folder."""
    return layout_of(state).nbytes if folder is None else changed_pipeline_size(state)


def write_checkpoint(
    state: StateDict, output: Path, folder: Path | None, *, overwrite: bool, progress: Progress
) -> tuple[int, FileHashes | None]:
    """Write the file, or the folder; how large it is, and the hashes of a file."""
    if folder is None:
        written = write_safetensors(state, output, overwrite=overwrite, progress=progress)
        return written.nbytes, written.hashes
    made = write_changed_pipeline(folder, state, output, overwrite=overwrite, progress=progress)
    return made.nbytes, None
