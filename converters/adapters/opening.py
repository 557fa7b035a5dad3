"""Adapter files with what PEFT keeps of them outside: scales in a file, the network in the path."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from converters.adapters.peft_config import CONFIG_FILE, DIFFUSERS_CONFIG, fields_of
from converters.containers import open_model
from converters.errors import AssetmgrError, FileUnreadable
from converters.statedict import StateDict

_PEFT_FILE = "adapter_model."
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_MOST_CONFIG = 1 << 21
_HEAD = "base_model.model."
_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
_NETWORKS = ("unet", "transformer", *_ENCODERS)


def _of_network(name: str, network: str) -> str:
    bare = name.removeprefix(_HEAD)
    return name if bare == name else f"{network}.{bare}"


def open_adapter(path: Path) -> StateDict:
    """An adapter with the configuration that PEFT puts beside it, if there is one.

    Raises FileProblem, AssetmgrError for a file without tensors.
    """
    state = open_model(path).state_dict
    if not state:
        raise AssetmgrError("holds no tensors", path=path)
    return with_config_beside(state, path)


def weights_in(folder: str | os.PathLike[str]) -> Path | None:
    """The file of weights in a folder that PEFT saved an adapter to; None for other folders."""
    files = (os.path.join(folder, name) for name in _WEIGHTS)  # noqa: PTH118
    return next(
        (
            Path(file)
            for file in files
            if os.path.isfile(file)  # noqa: PTH113  # never raises
            and os.path.isfile(os.path.join(folder, CONFIG_FILE))  # noqa: PTH113, PTH118
        ),
        None,
    )


def networks_in(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The folders of a folder that holds one adapter of PEFT for each network of a model."""
    inner = (os.path.join(folder, name) for name in _NETWORKS)  # noqa: PTH118  # never raises
    return tuple(Path(each) for each in inner if weights_in(each) is not None)


def files_in(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The weights in a folder that PEFT saved, those of each network; none in other folders."""
    whole = weights_in(folder)
    each = [whole] if whole else [weights_in(inner) for inner in networks_in(folder)]
    return tuple(file for file in each if file is not None)


def open_folder(files: Sequence[Path]) -> StateDict:
    """The adapters of several networks as one, as diffusers keeps it; one alone as it is.

    `files` are those of `files_in`. Raises FileProblem.
    """
    adapters = {file.parent.name: open_adapter(file) for file in files}
    if len(adapters) == 1:
        return next(iter(adapters.values()))
    tensors = {
        _of_network(name, network): tensor
        for network, state in adapters.items()
        for name, tensor in state.items()
    }
    fields = {
        f"{network}.{field}": value
        for network, state in adapters.items()
        for field, value in fields_of(state.metadata).items()
    }
    texts = {key: text for state in adapters.values() for key, text in state.metadata.items()}
    told = {key: text for key, text in texts.items() if key != CONFIG_FILE}
    return StateDict(tensors, {**told, DIFFUSERS_CONFIG: json.dumps(fields)})


def with_config_beside(state: StateDict, path: Path) -> StateDict:
    """The tensors of a file with PEFT's configuration in the metadata, if one lies beside it.

    Where the folder has the name of a text encoder, their names say so, too: PEFT's own are the
    same for all encoders. Raises FileUnreadable for a configuration that cannot be read.
    """
    config = path.with_name(CONFIG_FILE)
    if not path.name.startswith(_PEFT_FILE) or not config.is_file():
        return state
    if path.parent.name in _ENCODERS:
        state = state.rename(lambda name: _of_network(name, path.parent.name))
    try:
        with config.open("rb") as file:
            text = file.read(_MOST_CONFIG).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileUnreadable(str(error), path=config) from error
    return state.with_metadata({**state.metadata, CONFIG_FILE: text})
