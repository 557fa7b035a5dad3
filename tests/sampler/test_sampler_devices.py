"""In which precision a render runs, whatever device there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from assetmgr.operations.preview.job import plan_job
from assetmgr.operations.preview.request import PreviewRequest
from assetmgr.operations.preview.subject import Subject
from assetmgr.sampler.models.families import FAMILIES, half_of
from assetmgr.sampler.process.jobs import ModelFile, RenderJob
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.rendering.devices import choose_precision
from converters.bases import Base
from converters.errors import BadValue
from converters.progress import SILENT

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(
    ("base", "device", "knows_bf16", "dtype"),
    [
        (Base.SDXL, "cuda", True, torch.float16),
        (Base.FLUX, "cuda", True, torch.bfloat16),
        (Base.FLUX, "cuda", False, torch.float16),
        (Base.FLUX, "mps", True, torch.float32),
        (Base.FLUX, "cpu", True, torch.float32),
    ],
)
def test_auto_is_the_narrow_type_of_the_family_on_cuda_and_fp32_elsewhere(
    base: Base,
    device: str,
    knows_bf16: bool,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: knows_bf16)
    assert choose_precision("auto", torch.device(device), FAMILIES[base].half) is dtype
    assert choose_precision("fp16", torch.device(device), FAMILIES[base].half) is torch.float16


@pytest.mark.parametrize("base", [Base.SD1, Base.FLUX])
def test_a_job_says_of_which_family_its_checkpoint_is(base: Base, tmp_path: Path) -> None:
    model = ModelFile("/models/base.safetensors", "base", "checkpoint")
    subject = Subject(None, model, base, (), None, None)
    job = plan_job(PreviewRequest(), subject, subject, tmp_path)
    assert half_of(job.family) == FAMILIES[base].half


def test_an_unknown_precision_lists_the_known() -> None:
    with pytest.raises(BadValue, match="unknown dtype 'fp8'"):
        choose_precision("fp8", torch.device("cpu"), "fp16")


@pytest.fixture
def convolutions() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("convolutions")
def test_only_who_asks_for_fp32_has_convolutions_in_all_its_bits(
    session: Session, job: RenderJob
) -> None:
    rounded = {}
    for dtype in ("fp32", "auto"):
        session.render(replace(job, dtype=dtype, steps=1, with_effect=False), SILENT)
        rounded[dtype] = torch.backends.cudnn.allow_tf32
    assert rounded == {"fp32": False, "auto": True}
