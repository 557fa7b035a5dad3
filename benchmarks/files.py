"""The files that are measured: the tensors of Stable Diffusion 1.5 with random bytes."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path

from benchmarks.measure import Case, python, run
from converters.containers import open_model
from converters.writers.safetensors import write_safetensors

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.sd1 import checkpoint_shapes


def checkpoint_of(scratch: Path, scale: float) -> Path:
    """The measured `.ckpt`, its twin beside it; made at the first call in a scratch folder."""
    checkpoint = scratch / f"checkpoint {scale:g}" / "model.ckpt"
    if not checkpoint.exists():
        checkpoint.parent.mkdir()
        run(Case("files", python("-m", "benchmarks.files", str(checkpoint), str(scale))))
    return checkpoint


def make_checkpoint(target: Path, scale: float) -> None:
    """Save 1,131 fp16 tensors as torch does, 2.13 GB; `scale` shortens their first dimension."""
    import torch

    def values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if name.endswith("position_ids"):
            return torch.arange(shape[-1]).unsqueeze(0)
        rows = max(1, round(shape[0] * scale))
        whole = torch.empty((rows, *shape[1:]), dtype=torch.int16)
        return whole.random_(-0x8000, 0x7FFF).view(torch.float16)

    tensors = {name: values(name, shape) for name, shape in checkpoint_shapes().items()}
    torch.save({"state_dict": tensors}, target)


def make_twin(checkpoint: Path, target: Path) -> None:
    """The same tensors as safetensors."""
    state = open_model(checkpoint).state_dict
    write_safetensors(state, target, overwrite=True, with_hashes=False)


def make_adapters(folder: Path, count: int) -> None:
    """Fill a folder with small LoRA files, each of another content."""
    folder.mkdir(parents=True)
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    shapes = {"lora_down.weight": [1, 320], "lora_up.weight": [320, 1], "alpha": []}
    for number in range(count):
        entries: dict[str, object] = {"__metadata__": {"ss_tag_frequency": "{}"}}
        position = 0
        for part, shape in shapes.items():
            end = position + 2 * (320 if shape else 1)
            entry = {"dtype": "F16", "shape": shape, "data_offsets": [position, end]}
            entries[f"{layer}.{part}"] = entry
            position = end
        header = json.dumps(entries).encode()
        body = number.to_bytes(2, "little") * (position // 2)
        path = folder / f"adapter {number:04}.safetensors"
        path.write_bytes(len(header).to_bytes(8, "little") + header + body)


def make_large_headers(folder: Path, count: int) -> None:
    """Fill a folder with LoRA files as kohya writes them: 792 tensors in 1.2 MB, 113 kB of header.

    They lie in the order of their names, as the safetensors library puts those of one type. Their
    bytes are random at the beginning, and repeat.
    """
    folder.mkdir(parents=True)
    entries: dict[str, object] = {}
    position = 0
    for name, shape in sorted(_many_modules().items()):
        end = position + 2 * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [position, end]}
        position = end
    block = random.Random(1).randbytes(1 << 16)
    body = block * (position // len(block) + 1)
    for number in range(count):
        title = {"ss_output_name": f"adapter {number}", "ss_steps": str(number)}
        header = json.dumps({"__metadata__": title, **entries}).encode()
        path = folder / f"adapter {number:04}.safetensors"
        start = number.to_bytes(8, "little")
        path.write_bytes(len(header).to_bytes(8, "little") + header + start + body[8:position])


def _many_modules() -> dict[str, list[int]]:
    """The names and shapes of an adapter of 264 modules."""
    layer = "lora_unet_down_blocks_{}_attentions_{}_transformer_blocks_0_attn1_to_q.{}"
    parts = {"lora_down.weight": [4, 256], "lora_up.weight": [4, 256], "alpha": []}
    return {
        layer.format(number // 88, number, part): shape
        for number in range(264)
        for part, shape in parts.items()
    }


if __name__ == "__main__":  # in a process of its own: making the file takes all its memory at once
    make_checkpoint(Path(sys.argv[1]), float(sys.argv[2]))
    make_twin(Path(sys.argv[1]), Path(sys.argv[1]).with_suffix(".safetensors"))
