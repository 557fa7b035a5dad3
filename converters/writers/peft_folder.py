"""An adapter as the folder that `PeftModel.from_pretrained` loads, or one for each network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from converters.adapters.peft_config import CONFIG_FILE
from converters.adapters.peft_spelling import joined, networks_of
from converters.containers import open_model
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
    """Write the folder whole or not at all; `state` is what `in_peft` gives.

    The hashes are those of its file of weights, None where there are several. Replaces only folders
    that hold nothing else. Raises WriteProblem for the target, FileProblem for a source.
    """
    refuse_full(target, layout_of(state).nbytes)
    networks = networks_of(state)
    own = _OWN_FILES if "" in networks else frozenset(networks)
    with AtomicFolder(target, own, overwrite=overwrite) as folder:
        written = [
            _write(adapter, folder.path / network, progress)
            for network, adapter in networks.items()
        ]
        folder.commit()
    if len(written) == 1:
        return replace(written[0], path=target)
    sizes = (sum(each.nbytes for each in written), sum(each.tensors for each in written))
    return Written(target, *sizes, None)


def _write(adapter: StateDict, folder: Path, progress: Progress) -> Written:
    folder.mkdir(exist_ok=True)
    written = write_safetensors(adapter, folder / WEIGHTS_FILE, progress=progress)
    config = json.dumps(json.loads(adapter.metadata[CONFIG_FILE]), indent=2)
    write_whole(folder / CONFIG_FILE, f"{config}\n".encode())
    return written


def weights_of(target: Path) -> Path:
    """A file of weights in a folder as it is written here: the only one, or the first."""
    return next(iter(sorted(target.glob(f"*/{WEIGHTS_FILE}"))), target / WEIGHTS_FILE)


def read_peft_folder(target: Path) -> StateDict:
    """The tensors of a folder as `in_peft` names them. Raises FileProblem."""
    files = sorted(target.glob(f"*/{WEIGHTS_FILE}"))
    if not files:
        return open_model(target / WEIGHTS_FILE).state_dict
    return joined({file.parent.name: open_model(file).state_dict for file in files})
