"""The containers a conversion can write: one row each, for sizes, writing and comparing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assetmgr.operations.convert.change import QUANTISED, Change
from converters.adapters.peft_spelling import PEFT, peft_notes
from converters.containers import Container, open_model
from converters.errors import BadValue, UnsupportedFile
from converters.hashing import hash_file
from converters.identify import Identity, Kind
from converters.layouts.pipeline import Components, to_components
from converters.progress import Progress
from converters.statedict import StateDict
from converters.transform.pickled_forms import pickled_form
from converters.transform.quantised_weights import unscaled
from converters.writers.diffusers_folder import pipeline_size, write_pipeline
from converters.writers.embedding_image import (
    embedding_image,
    seen_in_image,
    write_embedding_image,
)
from converters.writers.gguf import gguf_layout, seen_in_gguf, write_gguf
from converters.writers.peft_folder import read_peft_folder, weights_of, write_peft_folder
from converters.writers.safetensors import Written, layout_of, write_safetensors
from converters.writers.torch_zip import write_torch_zip

_Write = Callable[[StateDict, Identity, Path, bool, Progress], Written]


@dataclass(frozen=True, slots=True)
class Format:
    """How a container is planned and written.

    `suffix` ends the target's name, empty for a folder; some kinds need another (`suffixes`).
    `size` is that of the target, as far as its headers tell; `seen` are the tensors as reading the
    target gives them. `layouts` are those that some kinds get where none is asked for;
    `model` is the path of the target's weights, or of some of them; `read` gives all of them.
    `notes` are what to know of the target.
    """

    word: str
    suffix: str
    size: Callable[[StateDict, Identity], int]
    seen: Callable[[StateDict, Identity], StateDict]
    write: _Write
    dropped: Callable[[StateDict, Identity], tuple[str, ...]] = lambda *_: ()
    suffixes: Mapping[Kind, str] = field(default_factory=dict)
    layouts: Mapping[Kind, str] = field(default_factory=dict)
    model: Callable[[Path], Path] = lambda target: target
    read: Callable[[Path], StateDict] = lambda target: open_model(target).state_dict
    notes: Callable[[StateDict], tuple[str, ...]] = lambda _: ()


def _same(state: StateDict, _: Identity) -> StateDict:
    return state


def _safetensors(
    state: StateDict, _: Identity, target: Path, overwrite: bool, progress: Progress
) -> Written:
    return write_safetensors(state, target, overwrite=overwrite, progress=progress)


def _peft(
    state: StateDict, _: Identity, target: Path, overwrite: bool, progress: Progress
) -> Written:
    return write_peft_folder(state, target, overwrite=overwrite, progress=progress)


def _torch_zip(
    state: StateDict, identity: Identity, target: Path, overwrite: bool, progress: Progress
) -> Written:
    tree = pickled_form(state, identity.kind).tree
    nbytes = write_torch_zip(tree, target, overwrite=overwrite, progress=progress)
    progress.stage(f"hashing {target.name}", nbytes)
    return Written(target, nbytes, len(state), hash_file(target, progress).hashes)


def _embedding(state: StateDict, identity: Identity) -> StateDict:
    if identity.kind is not Kind.EMBEDDING:
        raise UnsupportedFile(f"is no embedding but {identity.kind}: only those become pictures")
    return state


def _image(
    state: StateDict, identity: Identity, target: Path, overwrite: bool, progress: Progress
) -> Written:
    nbytes = write_embedding_image(_embedding(state, identity), target, overwrite=overwrite)
    return Written(target, nbytes, len(state), hash_file(target, progress).hashes)


def _components(state: StateDict, identity: Identity) -> Components:
    if identity.kind is not Kind.CHECKPOINT:
        raise UnsupportedFile(f"is no checkpoint but {identity.kind}: only those become pipelines")
    return to_components(state, identity.base)


def _pipeline(
    state: StateDict, identity: Identity, target: Path, overwrite: bool, progress: Progress
) -> Written:
    from assetmgr.sampler.prompts.tokenizer import tokenizer_files

    components = _components(state, identity)
    written = write_pipeline(
        components,
        identity,
        target,
        tokenizer={
            "tokenizer": tokenizer_files(padding_is_end=identity.base != "sd-2"),
            "tokenizer_2": tokenizer_files(padding_is_end=False),
        },
        overwrite=overwrite,
        progress=progress,
    )
    return Written(target, written.nbytes, written.tensors, None)


def _pipeline_seen(state: StateDict, identity: Identity) -> StateDict:
    parts = _components(state, identity).parts
    return StateDict(
        {f"{name}.{key}": t for name, part in parts.items() for key, t in part.items()}
    )


def _gguf(quantise: str | None) -> Format:
    def write(
        state: StateDict, identity: Identity, target: Path, overwrite: bool, progress: Progress
    ) -> Written:
        return write_gguf(
            state, identity, target, quantise=quantise, overwrite=overwrite, progress=progress
        )

    return Format(
        "gguf",
        ".gguf",
        lambda state, identity: gguf_layout(state, identity, quantise).nbytes,
        lambda state, _: seen_in_gguf(state, quantise),
        write,
        lambda state, _: tuple(sorted(state.keys() - unscaled(state).keys())),
    )


FORMATS: Mapping[str, Format] = {
    each.word: each
    for each in (
        Format(
            "safetensors",
            ".safetensors",
            lambda state, _: layout_of(state).nbytes,
            _same,
            _safetensors,
        ),
        Format(
            "diffusers",
            "",
            lambda state, identity: pipeline_size(_components(state, identity)),
            _pipeline_seen,
            _pipeline,
            lambda state, identity: _components(state, identity).dropped,
        ),
        Format(
            "ckpt",
            ".ckpt",
            lambda state, _: state.nbytes,
            lambda state, identity: pickled_form(state, identity.kind).seen,
            _torch_zip,
            suffixes={Kind.EMBEDDING: ".pt", Kind.HYPERNETWORK: ".pt"},
            layouts={Kind.EMBEDDING: "a1111"},
        ),
        Format(
            "png",
            ".png",
            lambda state, identity: len(embedding_image(_embedding(state, identity))),
            lambda state, _: seen_in_image(state),
            _image,
            layouts={Kind.EMBEDDING: "a1111"},
        ),
        _gguf(None),
    )
}
"""The contract's words for containers to write."""

_ENDINGS = {form.suffix: word for word, form in FORMATS.items() if form.suffix}
_ENDINGS |= dict.fromkeys((".pt", ".pth", ".bin"), "ckpt")

_PEFT_FOLDER = Format(
    "peft",
    "",
    lambda state, _: layout_of(state).nbytes,
    _same,
    _peft,
    model=weights_of,
    read=read_peft_folder,
    notes=peft_notes,
)


def word_for(target: Path | None) -> str:
    """The container that a target's name promises, by which other programs read it."""
    return _ENDINGS.get(target.suffix.lower() if target else "", "safetensors")


def format_of(to: str, change: Change) -> Format:
    """The row for a key of FORMATS and for what the change asks of it. Raises BadValue.

    PEFT's layout is a folder of its own form, and only GGUF has quantised precisions.
    """
    if change.dtype in QUANTISED:
        if to != "gguf":
            raise BadValue(f"--dtype {change.dtype} needs --to gguf, not {to}")
        return _gguf(QUANTISED[change.dtype])
    if change.layout != PEFT:
        return FORMATS[to]
    if to != "safetensors":
        raise BadValue(f"--layout peft is a folder with safetensors, not {to}")
    return _PEFT_FOLDER


CONTAINERS = {
    "peft": "safetensors",
    "safetensors": "safetensors",
    "diffusers": "diffusers",
    "ckpt": "torch-zip",
    "png": Container.EMBEDDING_IMAGE.value,
    "gguf": Container.GGUF.value,
}
"""What `inspect` calls them."""
