"""Small model files for the command line's tests, as people have them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from helpers import pickles, sd1

from converters.writers.safetensors import write_safetensors

Shape = tuple[int, ...]

WIDTHS = sd1.Widths(
    channels=(32,),
    attention=(True,),
    layers=1,
    vae_channels=(32,),
    vae_layers=1,
    clip_layers=1,
    clip_inner=64,
    vocabulary=64,
)
"""An SD1 checkpoint of 6 MB, with the fewest tensors that make one."""

_KINDS = {"HalfStorage": 2, "FloatStorage": 4, "LongStorage": 8}


def checkpoint(path: Path, *, metadata: Mapping[str, str] | None = None) -> Path:
    """A complete small SD1 checkpoint in safetensors."""
    state = sd1.state_dict(
        sd1.checkpoint_shapes(WIDTHS), fill=sd1.random_fill(), metadata=metadata or {}
    )
    return write_safetensors(state, path, with_hashes=False).path


def lora(path: Path, *, text: bool = True, metadata: Mapping[str, str] | None = None) -> Path:
    """A kohya LoRA for that checkpoint."""
    modules = sd1.kohya_modules(WIDTHS) | (sd1.kohya_text_modules(WIDTHS) if text else {})
    return tensors(path, sd1.lora_shapes(modules), metadata=metadata)


def sdxl_lora(path: Path) -> Path:
    """A kohya LoRA for the text context of SDXL."""
    block = "lora_unet_input_blocks_4_1_transformer_blocks_0"
    modules = {f"{block}_attn2_to_k": (640, 2048), f"{block}_attn1_to_q": (640, 640)}
    modules["lora_te2_text_model_encoder_layers_0_self_attn_q_proj"] = (1280, 1280)
    return tensors(path, sd1.lora_shapes(modules))


def tensors(
    path: Path, shapes: Mapping[str, Shape], *, metadata: Mapping[str, str] | None = None
) -> Path:
    """A safetensors file of fp16 tensors."""
    state = sd1.state_dict(shapes, fill=sd1.random_fill(), metadata=metadata or {})
    return write_safetensors(state, path, with_hashes=False).path


def tiny(path: Path, word: str = "a") -> Path:
    """A safetensors file of a few bytes that is no model."""
    return tensors(path, {word: (2, 2)})


def pickled_checkpoint(path: Path, *, averages: bool = True) -> Path:
    """The same checkpoint as Lightning saves it: with EMA, schedule, step counts and callbacks."""
    shapes = sd1.checkpoint_shapes(WIDTHS)
    if averages:
        shapes |= {_average(name): shape for name, shape in shapes.items() if _is_unet(name)}
        shapes["model_ema.decay"] = ()
    shapes["betas"] = (8,)
    fill = sd1.random_fill()
    storages: dict[str, bytes] = {}
    entries: dict[str, bytes] = {}
    for number, (name, shape) in enumerate(shapes.items()):
        data = _position_ids(shape) if name.endswith("position_ids") else fill(name, shape)
        kind = "LongStorage" if name.endswith("position_ids") else "HalfStorage"
        storages[str(number)] = data
        entries[name] = _tensor(str(number), shape, kind, len(data))
    callback = pickles.name("pytorch_lightning.callbacks", "ModelCheckpoint")
    whole = {
        "epoch": pickles.number(3),
        "state_dict": pickles.dict_of(entries),
        "callbacks": pickles.MARK + callback + pickles.dict_of({}) + b"d",
    }
    path.write_bytes(pickles.torch_zip(pickles.pickled(pickles.dict_of(whole)), storages))
    return path


def pickled(path: Path, shapes: Mapping[str, Shape]) -> Path:
    """A plain torch pickle of fp16 tensors, with the values of `tensors`."""
    fill, storages, entries = sd1.random_fill(), {}, {}
    for number, (name, shape) in enumerate(shapes.items()):
        storages[str(number)] = fill(name, shape)
        entries[name] = _tensor(str(number), shape, "HalfStorage", len(storages[str(number)]))
    body = pickles.pickled(pickles.dict_of(entries))
    path.write_bytes(pickles.torch_zip(body, storages))
    return path


def hostile(path: Path, marker: Path) -> Path:
    """A torch zip that would make the file `marker` if anything ran it."""
    call = pickles.call_name("os.system", pickles.text(f"touch {marker}"))
    body = pickles.dict_of({"w": _tensor("0", (2,), "HalfStorage", 4), "x": call})
    path.write_bytes(pickles.torch_zip(pickles.pickled(body), {"0": b"\0" * 4}))
    return path


def sparse(path: Path, nbytes: int) -> Path:
    """A valid safetensors file whose one tensor is a hole, so that it takes no room on the disk."""
    elements = nbytes // 2
    header = f'{{"w":{{"dtype":"F16","shape":[{elements}],"data_offsets":[0,{2 * elements}]}}}}'
    raw = header.encode() + b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(raw)) + raw)
        file.truncate(8 + len(raw) + 2 * elements)
    return path


def _tensor(key: str, shape: Shape, kind: str, nbytes: int) -> bytes:
    stride: list[int] = []
    step = 1
    for extent in reversed(shape):
        stride.insert(0, step)
        step *= extent
    return pickles.tensor(key, shape, tuple(stride), numel=nbytes // _KINDS[kind], kind=kind)


def _position_ids(shape: Shape) -> bytes:
    return b"".join(n.to_bytes(8, "little") for n in range(shape[-1]))


def _is_unet(name: str) -> bool:
    return name.startswith(sd1.UNET)


def _average(name: str) -> str:
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def alone(file: Path, folder: Path) -> Path:
    """A second name of a file, in a folder with nothing else: all models are scanned in seconds."""
    place = folder / "alone" / file.name
    place.parent.mkdir()
    place.hardlink_to(file)
    return place
