"""LoRAs merged into checkpoints of the real sizes, and checkpoints with each other.

Against the plain way (load, add, save), the way of A1111 (all in memory, in the stored type), the
script of kohya, and sd-mecha; these two know models of the real sizes only. The adapters have the
modules that kohya's trainer gives them: all linear layers of attention blocks and text encoders.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
_TO_MECHA = 1 / 5
_NOT_TRAINED = ("embedding", "time_emb", "norm", "text_projection", "conv_shortcut")


def merges(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """SD1.5 with one adapter of rank 32, SDXL with three of rank 128, a sum of two SDXL."""
    names = ("SD1 + rank 32", "SDXL + 3 rank 128", "SDXL weighted sum")
    real = scale >= 1
    with _files(scratch / "sd-1", Base.SD1, 32, scale) as folder:
        plain = _Rival("load, add, save", 1 / 1.6, "merge_plain")
        yield from _merged(names[0], folder, 1, rounds, 350.0, plain, *(_kohya() if real else ()))
    with _files(scratch / "sdxl", Base.SDXL, 128, scale) as folder:
        plain = _Rival("load, add, save", 1 / 3, "merge_plain")
        mecha = [_Rival("sd-mecha", _TO_MECHA, "merge_mecha")] if real else []
        yield from _merged(names[1], folder, 3, rounds, 500.0, plain, *mecha)
        plain = _Rival("A1111's way", 1.0, "sum_plain")
        mecha = [_Rival("sd-mecha", _TO_MECHA, "sum_mecha")] if real else []
        yield from _summed(names[2], folder, rounds, plain, *mecha)


@contextmanager
def _files(folder: Path, base: Base, rank: int, scale: float) -> Iterator[Path]:
    """A folder with two checkpoints and three adapters, for a while."""
    run(Case("files", python("-m", "benchmarks.merge", str(folder), base, str(rank), str(scale))))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class _Rival:
    """Another way to do the same, and the share of its time that ours may take."""

    name: str
    goal: float
    job: str = ""
    command: Callable[[Path, list[Path]], list[str]] | None = None


def _merged(
    name: str, folder: Path, count: int, rounds: int, memory: float, *rivals: _Rival
) -> Iterator[Result]:
    sources = [folder / "base.safetensors", *sorted(folder.glob("lora-*"))[:count]]
    yield from _compared(name, "merge_ours", rivals, folder, sources, rounds, memory)


def _summed(name: str, folder: Path, rounds: int, *rivals: _Rival) -> Iterator[Result]:
    sources = [folder / "base.safetensors", folder / "other.safetensors"]
    yield from _compared(name, "sum_ours", rivals, folder, sources, rounds, 200.0)


def _compared(
    name: str,
    job: str,
    rivals: Sequence[_Rival],
    folder: Path,
    sources: list[Path],
    rounds: int,
    memory: float,
) -> Iterator[Result]:
    """Every way as a ratio to the first rival's, ours also to the others', and our memory."""
    target, before = folder / "merged.safetensors", _fresh(sources)
    first, *others = (
        Case(
            rival.name,
            rival.command(target, sources) if rival.command else _job(rival.job, target, sources),
            before=before,
        )
        for rival in rivals
    )
    ours = Case("assetmgr", _job(job, target, sources), rivals[0].goal, before)
    limit, mine, *timed = compare(name, first, [ours, *others], rounds)
    yield from (limit, mine, *timed)
    yield Result("memory", name, mine.private_bytes / MB, "MB", memory)
    for rival, other in zip(rivals[1:], timed, strict=True):
        ratio = statistics.median(mine.seconds) / statistics.median(other.seconds)
        yield Result(name, f"assetmgr to {other.case}", ratio, "x", rival.goal)


def _kohya() -> Iterator[_Rival]:
    """The script of kohya-ss/sd-scripts, if `SD_SCRIPTS` names a clone with its environment."""
    clone = os.environ.get("SD_SCRIPTS")
    if clone is None:
        print("no comparison with kohya's script: set SD_SCRIPTS to a clone of it", file=sys.stderr)
        return

    def command(target: Path, sources: list[Path]) -> list[str]:
        base, *adapters = map(str, sources)
        return [
            *(f"{clone}/venv/bin/python", f"{clone}/networks/merge_lora.py"),
            *("--precision", "float", "--save_precision", "fp16", "--save_to", str(target)),
            *("--sd_model", base, "--models", *adapters, "--ratios", *["0.5"] * len(adapters)),
        ]

    yield _Rival("kohya's script", 1 / 6, command=command)


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
