"""Valid, odd and hostile files of every container, and ways to break them.

A case is made from nothing but its number, so that whatever it shows can be shown again. Bytes are
changed blindly, and inside what checksums and lengths protect: pickles in archives, JSON headers,
chunks of pictures, members of tar files.
"""

from __future__ import annotations

import io
import json
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from helpers import embedding_pngs, gguf, torch_tar
from helpers.pickles import hostile_bodies, pickled, torch_zip
from helpers.verdicts import safety_of
from safetensors.torch import save

from converters.bytesource import ByteSource, MemoryBytes
from converters.containers import open_model
from converters.errors import FileProblem
from converters.identify import identify

Files = Mapping[str, bytes]
"""The files of a model by their name; the first is the one that is opened."""

MAX_READ = 64 << 20
"""Larger tensors are not read: a tensor of zeros may be repeated views of a few bytes."""

_NUMBERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40)
_NUMBERS += ((1 << 63) - 1, (1 << 64) - 1)


@dataclass(frozen=True)
class Seed:
    """A model, and how it is put together again with something inside it changed."""

    container: str
    files: Files
    rebuilt: Callable[[random.Random], bytes] | None = None


def seeds(command: str) -> list[Seed]:
    """One or several of each container; the hostile ones would run `command`."""
    return [*_benign(), *_several_files(), *_hostile(command)]


def case(corpus: list[Seed], number: int) -> tuple[Seed, Files]:
    """The seed and the broken files of a number."""
    chance = random.Random(number)
    kinds = sorted({seed.container for seed in corpus})
    kind = chance.choice(kinds)
    seed = chance.choice([each for each in corpus if each.container == kind])
    name = chance.choice(list(seed.files))
    first = next(iter(seed.files))
    if seed.rebuilt is not None and name == first and chance.random() < 0.5:
        content = seed.rebuilt(chance)
    else:
        content = mutated(seed.files[name], chance)
    return seed, {**seed.files, name: content}


def outcome(seed: Seed, files: Files) -> str:
    """How reading ended, in a word; what is not ours passes through."""
    with _opened(files) as source:
        try:
            safety_of(source)
            model = open_model(source)
            identify(model.state_dict)
            for name, tensor in model.state_dict.items():
                if tensor.nbytes <= MAX_READ and memoryview(tensor.read()).nbytes != tensor.nbytes:
                    raise AssertionError(f"{name} has another length than it says")
        except FileProblem as error:
            return error.code
    return f"read, {model.safety.verdict}"


class _opened:  # noqa: N801  # used like a function
    """The source to open: memory for one file, a folder for several."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> ByteSource | Path:
        (name, content), *others = self._files.items()
        if not others:
            return MemoryBytes(content, name)
        self._folder = tempfile.TemporaryDirectory()
        top = Path(self._folder.name)
        for each, data in self._files.items():
            path = top / each
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return top / name if name != "model_index.json" else top

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()


# -- changes ---------------------------------------------------------------------------------------


def mutated(content: bytes, chance: random.Random) -> bytes:
    """One to four changes of the content: a byte, a number, a cut, a repetition, an insertion."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.random()
        if kind < 0.45 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind < 0.65:
            number = chance.choice((*_NUMBERS, len(data), len(data) + 1))
            width = chance.choice((1, 2, 4, 8))
            raw = (number & ((1 << 8 * width) - 1)).to_bytes(
                width, chance.choice(("little", "big"))
            )
            data[at : at + width] = raw
        elif kind < 0.73:
            del data[at:]
        elif kind < 0.87:
            end = min(len(data), at + chance.randint(1, 40))
            data[at:at] = data[at:end] * chance.randint(1, 30)
        else:
            data[at:at] = chance.randbytes(chance.randint(1, 9))
    return bytes(data)


def mutated_json(text: bytes, chance: random.Random) -> bytes:
    """A JSON document with one to three of its values or keys changed."""
    document = json.loads(text)
    for _ in range(chance.randint(1, 3)):
        document = _changed(document, chance)
    return json.dumps(document).encode()


def _changed(value: object, chance: random.Random) -> object:
    if chance.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return _odd(value, chance)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        return [*value[:at], _changed(value[at], chance), *value[at + 1 :]]
    key = chance.choice(list(value))
    if chance.random() < 0.2:
        return {(str(_odd(k, chance)) if k == key else k): v for k, v in value.items()}
    return {**value, key: _changed(value[key], chance)}


def _odd(value: object, chance: random.Random) -> object:
    number = chance.choice(_NUMBERS)
    words = ["", "..", "../x", "/", "a\0b", "\u202e", "F32", "F4", "x" * 300, "\ud800"]
    return chance.choice(
        [number, -number, number + 0.5, None, True, [], {}, [value], {"x": value}, *words]
    )


# -- seeds -----------------------------------------------------------------------------------------


def _benign() -> Iterator[Seed]:
    weights = {"a": torch.ones(3), "b": torch.arange(6.0).reshape(2, 3).t(), "c": torch.ones(0)}
    checkpoint = {"state_dict": weights, "epoch": 3, "optimizer_states": [weights]}
    header = save({"a": torch.ones(3), "b": torch.ones(2)}, {"format": "pt"})
    yield Seed(
        "safetensors", {"x.safetensors": header}, lambda chance: _safetensors(header, chance)
    )
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        members = _unzipped(_saved(checkpoint))
        yield Seed(
            "torch-zip",
            {"x.ckpt": _zipped(members, packing)},
            lambda chance, members=members, packing=packing: _zipped(
                _one_changed(members, chance), packing
            ),
        )
    yield Seed("torch-legacy", {"x.pt": _saved(checkpoint, legacy=True)})
    parts = torch_tar.members()
    yield Seed(
        "torch-tar",
        {"x.ckpt": torch_tar.tar(parts)},
        lambda chance: torch_tar.tar(_one_changed(parts, chance)),
    )
    yield Seed("gguf", {"x.gguf": _gguf()})
    yield from _pictures()


def _several_files() -> Iterator[Seed]:
    shards = {f"model-0000{n}-of-00002.safetensors": save({f"w{n}": torch.ones(2)}) for n in (1, 2)}
    places = {f"w{n}": name for n, name in enumerate(shards, 1)}
    index = json.dumps({"metadata": {"total_size": 16}, "weight_map": places}).encode()
    yield Seed(
        "sharded-safetensors",
        {"model.safetensors.index.json": index, **shards},
        lambda chance: mutated_json(index, chance),
    )
    scheduler = json.dumps({"prediction_type": "v_prediction"}).encode()
    names = {
        "_class_name": "StableDiffusionPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "safety_checker": [None, None],
    }
    pipeline = json.dumps(names).encode()
    unet = save({"conv_in.weight": torch.ones(2, 4, 3, 3)})
    yield Seed(
        "diffusers",
        {
            "model_index.json": pipeline,
            "unet/diffusion_pytorch_model.safetensors": unet,
            "text_encoder/pytorch_model.bin": _saved({"text_model.x": torch.ones(2)}),
            "scheduler/scheduler_config.json": scheduler,
        },
        lambda chance: mutated_json(pipeline, chance),
    )


def _hostile(command: str) -> Iterator[Seed]:
    for body in hostile_bodies(command).values():
        pickle = pickled(body)
        yield Seed(
            "hostile torch-zip",
            {"x.pt": torch_zip(pickle)},
            lambda chance, pickle=pickle: torch_zip(mutated(pickle, chance)),
        )
        yield Seed("hostile pickle", {"x.pkl": pickle})


def _pictures() -> Iterator[Seed]:
    small = embedding_pngs.embedding([[0.5, -1.0], [2.0, 0.25]])
    for data in (
        embedding_pngs.as_text(small),
        embedding_pngs.as_text(small, "zTXt"),
        embedding_pngs.as_pixels(json.dumps(small).encode()),
    ):
        yield Seed(
            "embedding-image",
            {"x.png": data},
            lambda chance, data=data: _with_right_sums(mutated(data, chance)),
        )


def _gguf() -> bytes:
    blocks = bytes(range(256)) * 2
    return gguf.gguf(
        {
            "a": ((2, 3), "F32", bytes(24)),
            "q8": ((32, 2), "Q8_0", blocks[: 2 * 34]),
            "q4": ((256,), "Q4_K", blocks[:144]),
        },
        {
            "general.architecture": (gguf.STRING, gguf.text("sdxl")),
            "general.alignment": gguf.entry(gguf.U32, "<I", 32),
            "list": gguf.array(gguf.I32, [struct.pack("<i", n) for n in (2, 8)]),
        },
    )


def _safetensors(content: bytes, chance: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header = mutated_json(content[8 : 8 + length], chance)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _saved(value: object, *, legacy: bool = False) -> bytes:
    target = io.BytesIO()
    torch.save(value, target, _use_new_zipfile_serialization=not legacy)
    return target.getvalue()


def _unzipped(content: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(members: Files, packing: int) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


def _one_changed(members: Files, chance: random.Random) -> Files:
    """The pickle more often than other members: it decides what is read."""
    name = chance.choice([*members, *(name for name in members if "pkl" in name or "pick" in name)])
    return {**members, name: mutated(members[name], chance)}


def _with_right_sums(content: bytes) -> bytes:
    data = bytearray(content)
    embedding_pngs.repair(data)
    return bytes(data)
