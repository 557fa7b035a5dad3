"""LoRAs merged into checkpoints of the real sizes, and checkpoints with each other.

Against the plain way (load, add, save), the way of A1111 (all in memory, in the stored type), the
script of kohya, and sd-mecha; these two know models of the real sizes only. Ours is on the disk
when it ends, those of the others may be in memory still. The adapters have the modules that kohya's
trainer gives them: all linear layers of attention blocks and text encoders.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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


@contextmanager
def _files(scratch: Path, base: Base, rank: int, scale: float) -> Iterator[Path]:
    """A folder with two checkpoints and three adapters, for a while.

    Those in a folder that `BENCH_FILES` names are kept, and serve the next time.
    """
    kept = os.environ.get("BENCH_FILES")
    folder = Path(kept or scratch) / f"{base}-{rank}-{scale:g}"
    if not folder.exists():
        making = folder.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        told = (str(making), base, str(rank), str(scale))
        run(Case("files", python("-m", "benchmarks.merge", *told)))
        making.rename(folder)
    try:
        yield folder
    finally:
        if kept is None:
            shutil.rmtree(folder)


@dataclass(frozen=True, slots=True)
class _Rival:
    """Another way to do the same, and the share of its time that ours may take."""

    name: str
    goal: float
    job: str = ""
    command: Callable[[Path, list[Path]], list[str]] | None = None


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What is merged into what: two checkpoints without adapters; by whom beside us.

    `rank` is that of the adapters beside the files, `memory` is what we may take in MB; some know
    models of the `real` sizes only.
    """

    name: str
    base: Base
    rank: int
    adapters: int
    memory: float
    rival: Callable[[], _Rival | None]
    real: bool = False

    def __call__(self, scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
        """Ours as a ratio to the rival's time, and our memory."""
        rival = self.rival()
        if rival is None or (self.real and scale < 1):
            return
        with _files(scratch, self.base, self.rank, scale) as folder:
            others = sorted(folder.glob("lora-*"))[: self.adapters]
            sources = [folder / "base.safetensors", *(others or [folder / "other.safetensors"])]
            target = scratch / "merged.safetensors"
            before, job = _fresh(sources, target), "merge_ours" if others else "sum_ours"
            theirs = rival.command or partial(_job, rival.job)
            limit = Case(rival.name, theirs(target, sources), before=before)
            ours = Case("assetmgr", _job(job, target, sources), rival.goal, before)
            timed = compare(self.name, limit, [ours], rounds)
            target.unlink()
        yield from timed
        yield Result("memory", self.name, timed[1].private_bytes / MB, "MB", self.memory)


def _kohya() -> _Rival | None:
    """The script of kohya-ss/sd-scripts, if `SD_SCRIPTS` names a clone with its environment."""
    clone = os.environ.get("SD_SCRIPTS")
    if clone is None:
        print("no comparison with kohya's script: set SD_SCRIPTS to a clone of it", file=sys.stderr)
        return None

    def command(target: Path, sources: list[Path]) -> list[str]:
        base, *adapters = map(str, sources)
        return [
            *(f"{clone}/venv/bin/python", f"{clone}/networks/merge_lora.py"),
            *("--precision", "float", "--save_precision", "fp16", "--save_to", str(target)),
            *("--sd_model", base, "--models", *adapters, "--ratios", *["0.5"] * len(adapters)),
        ]

    return _Rival("kohya's script", 1 / 6, command=command)


def _job(job: str, target: Path, sources: list[Path]) -> list[str]:
    return python("-m", "benchmarks.jobs", job, str(target), *map(str, sources))


def _fresh(sources: list[Path], target: Path) -> Callable[[], None]:
    def prepare() -> None:
        target.unlink(missing_ok=True)
        for source in sources:
            read_through(source)
        warm(target.parent, sources[0].stat().st_size)

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


_SD1 = ("SD1 + rank 32", Base.SD1, 32, 1, 350.0)
_SDXL = ("SDXL + 3 rank 128", Base.SDXL, 128, 3, 500.0)
_SUM = ("SDXL weighted sum", Base.SDXL, 128, 0, 200.0)

COMPARISONS: Mapping[str, _Comparison] = {
    "merge-sd1": _Comparison(*_SD1, lambda: _Rival("load, add, save", 1 / 1.6, "merge_plain")),
    "merge-sd1-kohya": _Comparison(*_SD1, _kohya, real=True),
    "merge-sdxl": _Comparison(*_SDXL, lambda: _Rival("load, add, save", 1 / 3, "merge_plain")),
    "merge-sdxl-mecha": _Comparison(
        *_SDXL, lambda: _Rival("sd-mecha", 1 / 5, "merge_mecha"), real=True
    ),
    "merge-sum": _Comparison(*_SUM, lambda: _Rival("A1111's way", 1.0, "sum_plain")),
    "merge-sum-mecha": _Comparison(
        *_SUM, lambda: _Rival("sd-mecha", 1 / 5, "sum_mecha"), real=True
    ),
}
"""Each with one rival, so that none takes long."""


if __name__ == "__main__":  # in a process of its own, so that its memory is not counted
    _make(Path(sys.argv[1]), Base(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
