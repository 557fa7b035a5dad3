"""An adapter as the folder that `PeftModel.from_pretrained` loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from converters.adapters.peft_config import CONFIG_FILE
from converters.errors import TargetExists
from converters.progress import SILENT, Progress
from converters.statedict import StateDict
from converters.writers.atomic import refuse_full, write_whole
from converters.writers.folder import AtomicFolder
from converters.writers.safetensors import Written, layout_of, write_safetensors

WEIGHTS_FILE = "adapter_model.safetensors"
_OWN_FILES = frozenset({WEIGHTS_FILE, CONFIG_FILE})


def write_peft_folder(
    state: StateDict, target: Path, *, overwrite: bool = False, progress: Progress = SILENT
) -> Written:
    """Write the folder whole or not at all; `state` is what `in_peft` gives, hashes are its file's.

    Replaces only folders that hold nothing else. Raises WriteProblem for the target, FileProblem
    for a source.
    """
    _refuse_other_files(target)
    refuse_full(target, layout_of(state).nbytes)
    config = json.dumps(json.loads(state.metadata[CONFIG_FILE]), indent=2)
    with AtomicFolder(target, overwrite=overwrite) as folder:
        written = write_safetensors(state, folder.path / WEIGHTS_FILE, progress=progress)
        write_whole(folder.path / CONFIG_FILE, f"{config}\n".encode())
        folder.commit()
    return replace(written, path=target)


def _refuse_other_files(target: Path) -> None:
    """Models of a user, say, in a folder that was named by mistake."""
    if not target.is_dir():
        return
    other = next((path.name for path in target.iterdir() if path.name not in _OWN_FILES), None)
    if other is not None:
        raise TargetExists(f"is a folder that holds more than an adapter: {other}", path=target)
