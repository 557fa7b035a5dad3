"""Files of 7 GB: SDXL copied and looked into, and an averaged fp32 checkpoint made half as precise.

The bytes repeat a block of normally distributed numbers; nothing here compresses or compares them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from assetmgr.sources.remote import RemoteBytes
from benchmarks.measure import MB, Case, Result, compare, python, read_through, run, warm
from converters.bytesource import FileBytes
from converters.containers import open_model
from converters.dtypes import DType
from converters.identify import identify
from converters.statedict import LazyTensor, StateDict
from converters.writers.safetensors import write_safetensors
from converters.writers.torch_zip import write_torch_zip

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.pipelines import true_sdxl
from helpers.sd1 import Shapes, checkpoint_shapes

COPY_GOAL, CAST_GOAL, HASH_GOAL = 1.2, 4.0, 2.1
COPY_MEMORY, CAST_MEMORY = 64.0, 150.0
LOOK_GOALS = {".ckpt": 0.150, ".safetensors": 0.030}
PEEK_REQUESTS, PEEK_KB = 6.0, 500.0

_UNET = "model.diffusion_model."


def large(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """Looking, copying, and casting."""
    yield from look(scratch, scale, rounds)
    yield from sdxl(scratch, scale, rounds)
    yield from full(scratch, scale, rounds)


def sdxl(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """Unchanged bytes of SDXL, from a pickle, without and with every hash of the output."""
    source, target = scratch / "sdxl.ckpt", scratch / "out.safetensors"
    _make(source, "sdxl", scale)
    fresh = _fresh(scratch, source, target)
    ways = (("copy", "convert", COPY_GOAL), ("copy and hash", "convert_hashed", HASH_GOAL))
    for name, job, goal in ways:
        timed = compare(
            f"SDXL, {name}",
            Case("cp and sync", _durable_copy(source, target), before=fresh),
            [_job(job, source, target, goal, fresh)],
            rounds,
        )
        yield from timed
        yield _memory(timed, COPY_MEMORY)
    source.unlink()
    target.unlink()


def full(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """fp32 with averages to fp16 without, against `cp` of the output and the way of torch."""
    source, target = scratch / "full.ckpt", scratch / "out.safetensors"
    _make(source, "full", scale)
    run(_job("cast_half", source, target, None, lambda: None))
    half = scratch / "half.safetensors"
    target.rename(half)
    fresh = _fresh(scratch, source, target)
    timed = compare(
        "fp32+EMA to fp16",
        Case("cp and sync", _durable_copy(half, target), before=fresh),
        [
            _job("cast_half", source, target, CAST_GOAL, fresh),
            Case("torch", _command("cast_half_torch", source, target), before=fresh),
        ],
        rounds,
    )
    yield from timed
    yield _memory(timed, CAST_MEMORY)
    for path in (source, target, half):
        path.unlink()


def look(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """Opening and identifying SDXL after start-up, and what that costs over a network."""
    state = _state(true_sdxl(), DType.F16, scale)
    for suffix, goal in LOOK_GOALS.items():
        path = scratch / f"zeros{suffix}"
        _zeros(state, path)
        times = [_look(path) for _ in range(2 * rounds + 1)][1:]
        median = sorted(times)[len(times) // 2]
        yield Result("look into SDXL", suffix, 1000 * median, "ms", 1000 * goal, tuple(times))
        path.unlink()
    path = scratch / "zeros.ckpt"
    _zeros(_state(checkpoint_shapes(), DType.F16, scale), path)
    remote = _remote(path)
    identify(open_model(remote).state_dict)
    yield Result("peek at SD1 .ckpt", "requests", remote.cost.requests, "", PEEK_REQUESTS)
    yield Result("peek at SD1 .ckpt", "received", remote.cost.received / 1000, "kB", PEEK_KB)
    path.unlink()


def _look(path: Path) -> float:
    started = time.perf_counter()
    identify(open_model(path).state_dict)
    return time.perf_counter() - started


def _remote(path: Path) -> RemoteBytes:
    source = FileBytes(path)
    return RemoteBytes(path.name, source.size, source.pread)


def _make(target: Path, which: str, scale: float) -> None:
    run(Case("files", python("-m", "benchmarks.large", which, str(target), str(scale))))


def _state(shapes: Shapes, dtype: DType, scale: float) -> StateDict:
    """Lazy tensors of these shapes, shortened by `scale`, with numbers that repeat."""
    block = _numbers(dtype)

    def tensor(name: str, shape: tuple[int, ...]) -> LazyTensor:
        rows = max(1, round(shape[0] * scale)) if shape else 1
        kind = DType.I64 if name.endswith("position_ids") else dtype
        size = (rows, *shape[1:]) if shape else ()
        count = LazyTensor(kind, size, (), name).nbytes
        return LazyTensor(kind, size, lambda: (block * (count // len(block) + 1))[:count], name)

    return StateDict({name: tensor(name, shape) for name, shape in shapes.items()})


def _numbers(dtype: DType) -> bytes:
    import numpy as np

    kind = np.float32 if dtype is DType.F32 else np.float16
    return (np.random.default_rng(0).standard_normal(1 << 20) * 0.02).astype(kind).tobytes()


def _averaged(shapes: Shapes) -> Shapes:
    """With the averages of the UNet, as trainers of the first checkpoints named them."""
    averages = {
        "model_ema.diffusion_model" + name.removeprefix(_UNET).replace(".", ""): shape
        for name, shape in shapes.items()
        if name.startswith(_UNET)
    }
    return {**shapes, **averages}


def _zeros(state: StateDict, path: Path) -> None:
    """The file at its true size with zeros for numbers."""
    zeros = state.map(lambda _, t: LazyTensor(t.dtype, t.shape, lambda: bytes(t.nbytes), t.origin))
    if path.suffix == ".ckpt":
        write_torch_zip({"state_dict": dict(zeros)}, path)
    else:
        write_safetensors(zeros, path, with_hashes=False)


def _command(job: str, source: Path, target: Path) -> list[str]:
    return python("-m", "benchmarks.jobs", job, str(source), str(target))


def _job(
    job: str, source: Path, target: Path, goal: float | None, before: Callable[[], None]
) -> Case:
    return Case("assetmgr", _command(job, source, target), goal, before=before)


def _durable_copy(source: Path, target: Path) -> list[str]:
    return ["sh", "-c", 'cp "$0" "$1" && sync "$1"', str(source), str(target)]


def _memory(timed: list[Result], goal: float) -> Result:
    ours = next(each for each in timed if each.case == "assetmgr")
    return Result("memory", ours.benchmark, ours.private_bytes / MB, "MB", goal)


def _fresh(scratch: Path, source: Path, target: Path) -> Callable[[], None]:
    size = source.stat().st_size

    def prepare() -> None:
        target.unlink(missing_ok=True)
        read_through(source)
        warm(scratch, size)

    return prepare


def _write(which: str, target: Path, scale: float) -> None:
    if which == "sdxl":
        state = _state(true_sdxl(), DType.F16, scale)
    else:
        state = _state(_averaged(checkpoint_shapes()), DType.F32, scale)
    write_torch_zip({"state_dict": dict(state)}, target)


if __name__ == "__main__":  # in a process of its own, so that its memory is not counted
    _write(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
