"""A tiny random checkpoint in the SD1 layout, files that go with it, a session to render them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers import sd1
from helpers.rendering import SMALLEST
from numpy.typing import NDArray
from safetensors.numpy import save_file

from assetmgr.demo.family import checkpoint, member, second_vae
from assetmgr.sampler.process.jobs import ModelFile, RenderJob
from assetmgr.sampler.process.libraries import import_libraries
from assetmgr.sampler.process.session import Session
from converters.writers.safetensors import write_safetensors

import_libraries(unused=())  # before the tests do it, who would need a half more time

CIRCLE = "a red circle on a white background"

Arrays = dict[str, NDArray[np.generic]]

WIDTHS = sd1.Widths(
    channels=(32, 64),
    attention=(True, True),
    layers=1,
    vae_channels=(32, 32, 32, 32),
    vae_layers=1,
    clip_layers=1,
    clip_inner=64,
)


def random_array(name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Values by which signals keep their size, the same for the same name."""
    if name.endswith("position_ids"):
        return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)
    if not shape:  # an adapter's alpha
        return np.array(4, np.float16)
    if len(shape) == 1:
        return np.full(shape, 0.0 if name.endswith("bias") else 1.0, np.float16)
    numbers = np.random.default_rng(zlib.crc32(name.encode()))
    rows = min(shape[0], 1024)  # the vocabulary's 49,408 rows repeat themselves
    block = numbers.normal(0, math.prod(shape[1:]) ** -0.5, (rows, *shape[1:]))
    return np.resize(block.astype(np.float16), shape)


def random_arrays(shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Random tensors of these names and shapes."""
    return {name: random_array(name, shape) for name, shape in shapes.items()}


@dataclass(frozen=True)
class Models:
    """Writes model files that fit the tiny checkpoint `base`."""

    folder: Path
    base: Path
    arrays: Arrays

    def write(self, name: str, arrays: Arrays, metadata: dict[str, str] | None = None) -> Path:
        path = self.folder / f"{name}.safetensors"
        save_file(arrays, path, metadata)
        return path

    def checkpoint(self, name: str, change: Callable[[Arrays], None]) -> Path:
        """A copy of the base with some tensors changed."""
        arrays = dict(self.arrays)
        change(arrays)
        return self.write(name, arrays)

    def lora(self, name: str = "lora", scale: float = 1.0) -> Path:
        modules = {**sd1.kohya_modules(WIDTHS), **sd1.kohya_text_modules(WIDTHS)}
        arrays = random_arrays(sd1.lora_shapes(modules))
        for key, value in arrays.items():
            if key.endswith("lora_up.weight"):
                arrays[key] = (value * scale).astype(value.dtype)
        return self.write(name, arrays)

    def vae(self, name: str = "vae", scale: float = 0.7, halves: tuple[str, ...] = ("",)) -> Path:
        """A VAE, or the parts of one that begin with these."""
        shapes = sd1.vae_shapes(WIDTHS)
        arrays = random_arrays({n: s for n, s in shapes.items() if n.startswith(halves)})
        weight = arrays["decoder.conv_out.weight"]
        arrays["decoder.conv_out.weight"] = (weight * scale).astype(weight.dtype)
        return self.write(name, arrays)

    def embedding(self, name: str = "glow", rows: int = 2) -> Path:
        vectors = random_array(name, (rows, 768)) * np.float16(20)
        return self.write(name, {"emb_params": vectors.astype(np.float16)})


@pytest.fixture(scope="session", name="random_arrays")
def _random_arrays() -> Callable[[Mapping[str, tuple[int, ...]]], Arrays]:
    """Makes random tensors of names and shapes."""
    return random_arrays


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    arrays = random_arrays(sd1.checkpoint_shapes(WIDTHS))
    base = folder / "base.safetensors"
    save_file(arrays, base)
    return Models(folder, base, arrays)


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the demo's trained models: checkpoint, lora, embedding, hypernetwork, vae."""
    folder = tmp_path_factory.mktemp("family")
    members = {name: member(name) for name in ("lora", "embedding", "hypernetwork")}
    members |= {"checkpoint": checkpoint(), "vae": second_vae()}
    for name, state in members.items():
        write_safetensors(state, folder / f"{name}.safetensors", with_hashes=False)
    return folder


@pytest.fixture
def on_family(job: RenderJob, family: Path) -> Callable[[str], RenderJob]:
    """The job that renders a kind of the family, with the prompt it was trained for."""
    prompts = {"lora": f"{CIRCLE} outlined", "embedding": "a gem on a white background"}

    def make(kind: str) -> RenderJob:
        base = ModelFile(str(family / "checkpoint.safetensors"), "shapes", "checkpoint")
        alone = kind == "checkpoint"
        return replace(
            job,
            subject=base if alone else ModelFile(str(family / f"{kind}.safetensors"), kind, kind),
            base=None if alone else base,
            prompt=prompts.get(kind, CIRCLE),
            trigger="gem" if kind == "embedding" else None,
            sampler="DPM++ 2M",
            steps=10,
            cfg=5.0,
            seed=3,
        )

    return make


@pytest.fixture(scope="session")
def session() -> Session:
    return Session()


@pytest.fixture
def job(models: Models, tmp_path: Path) -> RenderJob:
    """A render of the base checkpoint alone."""
    return replace(
        SMALLEST,
        subject=ModelFile(str(models.base), "base", "checkpoint"),
        prompt="a glow circle",
        steps=2,
        cfg=3.0,
        image=str(tmp_path / "image.png"),
        thumbnail=str(tmp_path / "image.webp"),
        overwrite=True,
    )


@pytest.fixture
def on_base(job: RenderJob) -> Callable[[Path, str], RenderJob]:
    """The job that renders a subject of some kind on the base."""

    def make(path: Path, kind: str) -> RenderJob:
        return replace(job, subject=ModelFile(str(path), path.stem, kind), base=job.subject)

    return make
