"""LoRAs merged into checkpoints of the real sizes, and checkpoints with each other.

Against the plain way (load, add, save), the way of A1111 (all in memory, in the stored type), and
sd-mecha, which knows models of the real sizes only. The adapters have the modules that kohya's
trainer gives them: all linear layers of attention blocks and text encoders.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
_OURS = "assetmgr"
_TO_MECHA = 1 / 5
_NOT_TRAINED = ("embedding", "time_emb", "norm", "text_projection", "conv_shortcut")


def merges(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """SD1.5 with one adapter of rank 32, SDXL with three of rank 128, a sum of two SDXL."""
    names = ("SD1 + rank 32", "SDXL + 3 rank 128", "SDXL weighted sum")
    with _files(scratch / "sd-1", Base.SD1, 32, scale) as folder:
        yield from _merged(names[0], folder, 1, rounds, goal=1 / 1.6, memory=350.0)
    with _files(scratch / "sdxl", Base.SDXL, 128, scale) as folder:
        yield from _merged(names[1], folder, 3, rounds, goal=1 / 3, memory=500.0, mecha=scale >= 1)
        yield from _summed(names[2], folder, rounds, mecha=scale >= 1)


@contextmanager
def _files(folder: Path, base: Base, rank: int, scale: float) -> Iterator[Path]:
    """A folder with two checkpoints and three adapters, for a while."""
    run(Case("files", python("-m", "benchmarks.merge", str(folder), base, str(rank), str(scale))))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _merged(
    name: str,
    folder: Path,
    count: int,
    rounds: int,
    *,
    goal: float,
    memory: float,
    mecha: bool = False,
) -> Iterator[Result]:
    sources = [folder / "base.safetensors", *sorted(folder.glob("lora-*"))[:count]]
    cases = ("load, add, save", "merge_plain"), ("assetmgr", "merge_ours")
    mechas = (("sd-mecha", "merge_mecha"),) if mecha else ()
    yield from _compared(name, (*cases, *mechas), folder, sources, rounds, goal, memory)


def _summed(name: str, folder: Path, rounds: int, *, mecha: bool) -> Iterator[Result]:
    sources = [folder / "base.safetensors", folder / "other.safetensors"]
    cases = ("A1111's way", "sum_plain"), ("assetmgr", "sum_ours")
    mechas = (("sd-mecha", "sum_mecha"),) if mecha else ()
    yield from _compared(name, (*cases, *mechas), folder, sources, rounds, 1.0, 200.0)


def _compared(
    name: str,
    jobs: Sequence[tuple[str, str]],
    folder: Path,
    sources: list[Path],
    rounds: int,
    goal: float,
    memory: float,
) -> Iterator[Result]:
    """Every way as a ratio to the first, ours also to sd-mecha, and our memory."""
    target = folder / "merged.safetensors"
    limit, *cases = (
        Case(way, _job(job, target, sources), goal if way == _OURS else None, _fresh(sources))
        for way, job in jobs
    )
    timed = compare(name, limit, cases, rounds)
    yield from timed
    ours, *others = timed[1:]
    yield Result("memory", name, ours.private_bytes / MB, "MB", memory)
    for other in others:
        ratio = statistics.median(ours.seconds) / statistics.median(other.seconds)
        yield Result(name, f"assetmgr to {other.case}", ratio, "x", _TO_MECHA)


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
    for seed, name in enumerate(("base", "other") if base is Base.SDXL else ("base",)):
        filled = _filled(state_dict(shapes), 0.02, seed)
        write_safetensors(filled, folder / f"{name}.safetensors", with_hashes=False)
    modules = _modules(state_dict(shapes), base)
    rank = rank if scale >= 1 else 1
    for number in range(3):
        adapter: dict[str, tuple[int, ...]] = {}
        for name, (out, inner) in modules.items():
            adapter[f"{name}.lora_down.weight"] = (rank, inner)
            adapter[f"{name}.lora_up.weight"] = (out, rank)
        filled = _filled(state_dict(adapter), 0.002, number)
        write_safetensors(filled, folder / f"lora-{number}.safetensors", with_hashes=False)


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


def _filled(state: StateDict, spread: float, seed: int) -> StateDict:
    import numpy as np

    block = (np.random.default_rng(seed).standard_normal(1 << 20) * spread).astype(np.float16)
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
