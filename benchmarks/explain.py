"""Finding out what a checkpoint was merged of: seconds, and bytes that are read of each candidate.

The files have the true sizes of Stable Diffusion 1.5, but only the rows that a recovery samples
hold anything; the rest are holes, which take no room on the disk.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

import numpy as np

from benchmarks.measure import MB, Result, python
from converters.adapters.targets import module_targets
from converters.containers import open_model
from converters.recovery.deltas import changes_of, delta_of
from converters.recovery.inquiry import VALUES
from converters.recovery.parts import Parts, explained_parts, joined, parts_of, slots_of
from converters.recovery.sampling import Sample, choose_sample

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.sd1 import (
    SMALL,
    TRUE,
    checkpoint_shapes,
    kohya_modules,
    kohya_text_modules,
    lora_shapes,
    random_fill,
    state_dict,
)

GOAL_SECONDS, GOAL_MB = 15.0, 8.0
_MODELS, _ADAPTERS = 24, 48
_WEIGHTS = {"model-0": 0.7, "model-1": 0.3}
_STRENGTH = 0.8
_OTHERS = 250_000


def explain(scratch: Path, scale: float, rounds: int) -> Iterator[Result]:
    """A blend of two of 24 checkpoints with one of 48 LoRAs in it."""
    widths = TRUE if scale >= 1 else SMALL
    folder = scratch / "collection"
    folder.mkdir()
    count = _MODELS if scale >= 1 else 3
    adapters = _ADAPTERS if scale >= 1 else 3
    for number in range(adapters):
        _write_adapter(folder / f"adapter-{number}.safetensors", number, widths)
    shapes = checkpoint_shapes(widths)
    for number in range(count):
        _write_model(folder / f"model-{number}.safetensors", shapes, number)
    blend = scratch / "blend.safetensors"
    _write_blend(blend, shapes, folder)
    walls, document = [], {}
    for _ in range(rounds):
        started = time.perf_counter()
        document = _explained(blend, folder, scratch)
        walls.append(time.perf_counter() - started)
    _require_found(document)
    case = f"{count} checkpoints, {adapters} LoRAs"
    nbytes = document["bytes_read"] / (count + 1)
    yield Result("explain", case, statistics.median(walls), "s", GOAL_SECONDS, tuple(walls))
    yield Result("explain: read of each", case, nbytes / MB, "MB", GOAL_MB)
    for path in (blend, *folder.iterdir()):
        path.unlink()
    folder.rmdir()


def _explained(blend: Path, folder: Path, scratch: Path) -> dict[str, object]:
    call = ("-m", "assetmgr", "lineage", "explain", str(blend), "--with", str(folder), "--json")
    environment = {**os.environ, "ASSETMGR_HOME": str(scratch / "home")}
    done = subprocess.run(
        python(*call), env=environment, check=True, capture_output=True, text=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _require_found(document: dict[str, object]) -> None:
    """A recovery that finds something else is no measurement."""
    unet = next(part for part in document["components"] if part["name"] == "unet")
    found = {each["name"]: round(each["weight"], 2) for each in unet["ingredients"]}
    if found != {**_WEIGHTS, "adapter-0": _STRENGTH}:
        raise RuntimeError(f"found {found}")


def _write_adapter(target: Path, number: int, widths: object) -> None:
    from converters.writers.safetensors import write_safetensors

    shapes = lora_shapes({**kohya_modules(widths), **kohya_text_modules(widths)}, rank=32)
    named = {f"{number}:{name}": shape for name, shape in shapes.items() if shape}
    state = state_dict(named, fill=random_fill(scale=0.02))
    write_safetensors(state.rename(lambda n: n.partition(":")[2]), target, with_hashes=False)


def _write_model(target: Path, shapes: Mapping[str, tuple[int, ...]], number: int) -> None:
    _write_holes(target, shapes)
    parts = parts_of(open_model(target).state_dict, "checkpoint")
    for name, sample in _samples(parts).items():
        _write_sample(target, parts, name, sample, _trained(name, sample, number))


def _write_blend(target: Path, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    _write_holes(target, shapes)
    parts = parts_of(open_model(target).state_dict, "checkpoint")
    adapter = open_model(folder / "adapter-0.safetensors").state_dict
    changes = changes_of(adapter, module_targets(joined(parts)))
    for name, sample in _samples(parts).items():
        blend = sum(w * _trained(name, sample, n) for n, w in enumerate(_WEIGHTS.values()))
        delta = delta_of(changes, name, parts, sample)
        values = blend if delta is None else blend + _STRENGTH * delta
        _write_sample(target, parts, name, sample, values)


def _samples(parts: Parts) -> dict[str, Sample]:
    return {
        name: choose_sample(parts[name], slots_of(name, parts[name]), VALUES.get(name, _OTHERS))
        for name in explained_parts(parts)
    }


def _trained(name: str, sample: Sample, number: int) -> np.ndarray:
    """The values of a model that was trained from a common one, as half precision has them."""
    count = sample.numel
    common = np.random.default_rng([0, *name.encode()]).standard_normal(count, np.float32)
    own = np.random.default_rng([number + 1, *name.encode()]).standard_normal(count, np.float32)
    return (0.05 * common + 0.004 * own).astype(np.float16).astype(np.float32)


def _write_sample(
    target: Path, parts: Parts, name: str, sample: Sample, values: np.ndarray
) -> None:
    data = values.astype(np.float16)
    at = 0
    with open(target, "r+b") as file:
        for run in sample.runs:
            rows = parts[name][run.name].slice0(run.start, run.stop)
            for extent in rows.extents or ():
                file.seek(extent.offset)
                file.write(data[at : at + extent.nbytes // 2].tobytes())
                at += extent.nbytes // 2


def _write_holes(target: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    entries, position = {}, 0
    for name, shape in shapes.items():
        if name.endswith("position_ids"):
            continue
        end = position + 2 * prod(shape)
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries).encode()
    with open(target, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + position)
