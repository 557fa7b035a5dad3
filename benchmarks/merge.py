"""LoRAs merged into checkpoints of the real sizes, against the plain way: load, add, save.

The adapters have the modules that kohya's trainer gives them: all linear layers of attention blocks
and text encoders.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.measure import MB, Case, Result, compare, python, read_through, run, warm
from converters.bases import Base
from converters.dtypes import DType
from converters.layouts.pipeline import to_components
from converters.statedict import LazyTensor, StateDict
from converters.writers.safetensors import write_safetensors

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.pipelines import FAMILIES, true_sdxl
from helpers.sd1 import checkpoint_shapes, state_dict

_PREFIXES: Mapping[Base, Mapping[str, str]] = {
    Base.SD1: {"unet": "lora_unet_", "text_encoder": "lora_te_"},
    Base.SDXL: {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"},
}
_SHAPES = {Base.SD1: checkpoint_shapes, Base.SDXL: true_sdxl}
_NOT_TRAINED = ("embedding", "time_emb", "norm", "text_projection", "conv_shortcut")


def merges(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """SD1.5 with one adapter of rank 32, SDXL with three of rank 128."""
    cases = (
        ("SD1 + rank 32", Base.SD1, 32, 1, 1 / 1.6, 350.0),
        ("SDXL + 3 rank 128", Base.SDXL, 128, 3, 1 / 3, 500.0),
    )
    for name, base, rank, count, goal, memory in cases:
        folder = scratch / str(base)
        make = python("-m", "benchmarks.merge", str(folder), base, str(rank), str(scale))
        run(Case("files", make))
        sources = [folder / "base.safetensors", *sorted(folder.glob("lora-*"))[:count]]
        target = scratch / "merged.safetensors"
        timed = compare(
            name,
            Case("load, add, save", _job("merge_plain", target, sources), before=_fresh(sources)),
            [Case("assetmgr", _job("merge_ours", target, sources), goal, before=_fresh(sources))],
            rounds,
        )
        yield from timed
        yield Result("memory", name, timed[-1].private_bytes / MB, "MB", memory)
        for path in (*folder.iterdir(), target):
            path.unlink()


def _job(job: str, target: Path, sources: list[Path]) -> list[str]:
    return python("-m", "benchmarks.jobs", job, str(target), *map(str, sources))


def _fresh(sources: list[Path]) -> Callable[[], None]:
    def prepare() -> None:
        for source in sources:
            read_through(source)
        warm(sources[0].parent, sources[0].stat().st_size)

    return prepare


def _make(folder: Path, base: Base, rank: int, scale: float) -> None:
    """A checkpoint and three adapters; a small `scale` makes small networks of the same kind."""
    folder.mkdir(parents=True)
    shapes = _SHAPES[base]() if scale >= 1 else FAMILIES[base]()
    write_safetensors(_filled(state_dict(shapes), 0.02), folder / "base.safetensors")
    modules = _modules(state_dict(shapes), base)
    rank = rank if scale >= 1 else 1
    for number in range(3):
        adapter: dict[str, tuple[int, ...]] = {}
        for name, (out, inner) in modules.items():
            adapter[f"{name}.lora_down.weight"] = (rank, inner)
            adapter[f"{name}.lora_up.weight"] = (out, rank)
        write_safetensors(
            _filled(state_dict(adapter), 0.002), folder / f"lora-{number}.safetensors"
        )


def _modules(state: StateDict, base: Base) -> dict[str, tuple[int, int]]:
    """Kohya's name of every trained linear layer -> its shape."""
    parts = to_components(state, base).parts
    found: dict[str, tuple[int, int]] = {}
    for component, prefix in _PREFIXES[base].items():
        for name, tensor in parts[component].items():
            path = name.removesuffix(".weight")
            if name == path or len(tensor.shape) != 2 or any(w in path for w in _NOT_TRAINED):
                continue
            found[prefix + path.replace(".", "_")] = (tensor.shape[0], tensor.shape[1])
    return found


def _filled(state: StateDict, spread: float) -> StateDict:
    import numpy as np

    block = (np.random.default_rng(0).standard_normal(1 << 20) * spread).astype(np.float16)
    data = block.tobytes()

    def fill(_: str, tensor: LazyTensor) -> LazyTensor:
        if tensor.dtype is not DType.F16:
            count = tensor.numel
            return LazyTensor(tensor.dtype, tensor.shape, lambda: bytes(8 * count), tensor.origin)
        size = tensor.nbytes
        repeated = size // len(data) + 1
        return LazyTensor(DType.F16, tensor.shape, lambda: (data * repeated)[:size], tensor.origin)

    return state.map(fill)


if __name__ == "__main__":  # in a process of its own, so that its memory is not counted
    _make(Path(sys.argv[1]), Base(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
