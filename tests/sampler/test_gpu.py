"""Renders on a CUDA device agree with those of the CPU. Run by `make gpu`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from assetmgr.sampler.process.session import Session
from converters.merge import products
from converters.progress import SILENT

if TYPE_CHECKING:
    from conftest import Models

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

OnBase = Callable[[Path, str], RenderJob]


def pixels(outcome: RenderOutcome) -> NDArray[np.int16]:
    assert outcome.image is not None, outcome.checks
    with Image.open(outcome.image) as image:
        return np.asarray(image).astype(np.int16)


def difference(session: Session, job: RenderJob, device: str, dtype: str) -> float:
    """Mean difference of the device's picture from the CPU's, in steps of 8 bits."""
    here = pixels(session.render(replace(job, device="cpu", dtype="fp32"), SILENT))
    there = session.render(replace(job, device=device, dtype=dtype), SILENT)
    assert there.parameters.device == device
    return float(np.abs(here - pixels(there)).mean())


def test_auto_is_cuda_in_half_precision(session: Session, job: RenderJob) -> None:
    outcome = session.render(replace(job, device="auto", dtype="auto"), SILENT)
    assert (outcome.parameters.device, outcome.parameters.dtype) == ("cuda", "fp16")
    assert outcome.peak_memory_bytes is not None
    assert outcome.peak_memory_bytes > 0


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 2.0), ("fp16", 12.0), ("bf16", 30.0)])
def test_a_checkpoint_looks_the_same_as_on_the_cpu(
    session: Session, job: RenderJob, dtype: str, tolerance: float
) -> None:
    assert difference(session, job, "cuda", dtype) < tolerance


def test_every_kind_of_adapter_works_there_and_leaves_nothing_behind(
    session: Session, job: RenderJob, on_base: OnBase, models: Models
) -> None:
    cuda = replace(job, device="cuda", dtype="fp32")
    before = pixels(session.render(cuda, SILENT))
    for path, kind in (
        (models.lora("gpu-lora"), "lora"),
        (models.embedding("glow"), "embedding"),
        (models.vae("gpu-vae"), "vae"),
    ):
        adapter = on_base(path, kind)
        assert difference(session, adapter, "cuda", "fp32") < 2
    assert session.kept.warm is not None
    session.render(cuda, SILENT)
    session.kept.warm.references.clear()
    assert np.array_equal(pixels(session.render(cuda, SILENT)), before)


def test_a_lora_in_half_precision_reads_nothing_of_the_base_again(
    session: Session, on_base: OnBase, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(on_base(models.lora("gpu-half"), "lora"), device="cuda", dtype="fp16")
    session.render(replace(job, subject=job.checkpoint, base=None), SILENT)

    def refuse(*_: object) -> None:
        raise AssertionError("read once more")

    monkeypatch.setattr(products, "Reader", refuse)
    assert session.render(job, SILENT).image is not None


@pytest.mark.parametrize("kind", ["checkpoint", "lora", "embedding", "hypernetwork", "vae"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 4.0), ("fp16", 10.0)])
def test_the_trained_family_passes_and_looks_the_same_as_on_the_cpu(
    session: Session,
    on_family: Callable[[str], RenderJob],
    kind: str,
    dtype: str,
    tolerance: float,
) -> None:
    job = on_family(kind)
    assert difference(session, job, "cuda", dtype) < tolerance
    outcome = session.render(replace(job, device="cuda", dtype=dtype), SILENT)
    assert outcome.verdict == "ok", outcome.checks


@pytest.mark.parametrize("kind", ["checkpoint", "lora", "embedding", "hypernetwork", "vae"])
def test_with_little_memory_the_picture_is_the_same_and_the_peak_lower(
    on_family: Callable[[str], RenderJob], kind: str
) -> None:
    usual = replace(on_family(kind), device="cuda", dtype="fp32")
    whole = Session().render(usual, SILENT)
    before = pixels(whole)
    frugal = Session().render(replace(usual, low_vram=True), SILENT)
    assert frugal.memory_measures == ("offload", "tiled-vae")
    assert frugal.memory_fallbacks == ()
    assert np.abs(pixels(frugal) - before).mean() < 4  # tiles of 32 pixels differ a little
    assert whole.peak_memory_bytes is not None
    assert frugal.peak_memory_bytes is not None
    assert frugal.peak_memory_bytes < whole.peak_memory_bytes


def test_exhausted_memory_is_an_error_in_words(session: Session, job: RenderJob) -> None:
    from converters.errors import AssetmgrError

    with pytest.raises(AssetmgrError, match="not enough memory"):
        session.render(replace(job, device="cuda", width=65536, height=65536, steps=1), SILENT)
    assert session.render(replace(job, device="cuda"), SILENT).image is not None
