"""A render that the memory does not suffice for falls back step by step, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from assetmgr.sampler.models.networks import Part, fill, unfilled
from assetmgr.sampler.process.jobs import RenderJob, RenderOutcome
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.rendering import render
from assetmgr.sampler.rendering.devices import process_peak, start_measuring
from assetmgr.sampler.rendering.memory import Measure, OneByOne, Thrift, awake, is_exhausted, sliced
from converters.containers import open_model
from converters.errors import OutOfMemory
from converters.progress import SILENT, Progress

if TYPE_CHECKING:
    from conftest import Models

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SAMPLE, DECODE = (
    "assetmgr.sampler.rendering.painter.sample",
    "assetmgr.sampler.rendering.painter.decode",
)


class Scarce:
    """Stands in for a stage of the render: fails for want of memory until something was done."""

    def __init__(self, stage: Callable[..., Any], suffices: Callable[[Any], bool]) -> None:
        self.stage = stage
        self.suffices = suffices
        self.failed = self.worked = 0

    def __call__(self, subject: Any, *arguments: Any) -> Any:
        if not self.suffices(subject):
            self.failed += 1
            raise torch.OutOfMemoryError("HIP out of memory. Tried to allocate 2.50 GiB.")
        self.worked += 1
        return self.stage(subject, *arguments)


class Messages(Progress):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def message(self, text: str) -> None:
        self.seen.append(text)


def pixels(outcome: RenderOutcome) -> np.ndarray:
    assert outcome.image is not None
    with Image.open(outcome.image) as image:
        return np.asarray(image, np.float32) / 255


@pytest.fixture
def narrow(job: RenderJob) -> RenderJob:
    """A render large enough for tiles."""
    return replace(job, width=128, height=64)


def test_a_picture_too_large_to_decode_is_decoded_in_tiles_without_sampling_again(
    narrow: RenderJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pixels(Session().render(replace(narrow, image=str(tmp_path / "w.png")), SILENT))
    decode, sample = Scarce(render.decode, lambda vae: vae.use_tiling), Scarce(render.sample, bool)
    monkeypatch.setattr(DECODE, decode)
    monkeypatch.setattr(SAMPLE, sample)
    session, progress = Session(), Messages()
    outcome = session.render(narrow, progress)
    assert outcome.memory_measures == outcome.memory_fallbacks == ("tiled-vae",)
    assert progress.seen == ["not enough memory, going on with tiled-vae"]
    assert (decode.failed, decode.worked, sample.worked) == (1, 1, 1)
    assert np.corrcoef(pixels(outcome).ravel(), whole.ravel())[0, 1] > 0.9
    again = session.render(replace(narrow, seed=2), SILENT)
    assert again.memory_fallbacks == ("tiled-vae",)
    assert decode.failed == 1, "what the memory did not suffice for is not tried again"
    other = session.render(replace(narrow, width=64), SILENT)
    assert other.memory_fallbacks == ("tiled-vae",), "decode fails without tiles at any size"
    assert decode.failed == 2, "another size is tried as it is"


def test_what_cannot_be_sampled_at_once_is_sampled_by_halves_with_the_same_result(
    narrow: RenderJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Session().render(replace(narrow, image=str(tmp_path / "w.png"), low_vram=True), SILENT)
    assert (whole.memory_measures, whole.memory_fallbacks) == (("tiled-vae",), ())
    sample = Scarce(render.sample, lambda denoiser: isinstance(denoiser.network, OneByOne))
    monkeypatch.setattr(SAMPLE, sample)
    outcome = Session().render(narrow, SILENT)
    assert outcome.memory_fallbacks == ("split-guidance", "tiled-vae")
    assert np.abs(pixels(outcome) - pixels(whole)).max() <= 2 / 255


def test_what_never_suffices_is_one_clear_error_and_the_session_goes_on(
    job: RenderJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    with monkeypatch.context() as scarcity:
        scarcity.setattr(SAMPLE, Scarce(render.sample, lambda _: False))
        with pytest.raises(OutOfMemory, match="not enough memory to render 64x64 on cpu") as caught:
            session.render(job, SILENT)
    assert caught.value.path == job.subject.path
    assert "--size" in (caught.value.hint or "")
    assert not Path(job.image).exists()
    assert session.render(job, SILENT).image == job.image


def test_other_errors_are_not_taken_for_exhaustion(
    job: RenderJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(SAMPLE, broken)
    with pytest.raises(RuntimeError, match="shapes"):
        Session().render(job, SILENT)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.93 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_every_backend_s_way_to_say_it_is_understood(error: Exception) -> None:
    assert is_exhausted(error)


@pytest.mark.parametrize("device", ["cuda", "mps", "cpu"])
@pytest.mark.parametrize("low_vram", [False, True])
def test_measures_are_taken_one_by_one_until_none_is_left(device: str, low_vram: bool) -> None:
    thrift = Thrift.begin(torch.device(device), low_vram, frozenset())
    taken = [*iter(lambda: thrift.tighten(SILENT), None)]
    assert len(taken) == len(set(taken)) == len(thrift.forced)
    assert thrift.taken >= {Measure.TILES, Measure.HALVES}
    assert (Measure.OFFLOAD in thrift.asked) == (low_vram and device == "cuda")
    assert not thrift.asked & thrift.forced


def test_networks_come_to_a_device_for_their_turn_and_are_what_they_were() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = [*network.parameters(), *network.buffers()]
    with awake(torch.device("meta"), network):
        assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}
    after = [*network.parameters(), *network.buffers()]
    assert all(mine is theirs for mine, theirs in zip(before, after, strict=True))
    with pytest.raises(KeyError), awake(torch.device("meta"), network):
        raise KeyError
    assert network[0].weight is before[0]


def test_sliced_attention_gives_the_same_and_is_undone(job: RenderJob) -> None:
    session = Session()
    session.render(job, SILENT)
    assert session.kept.warm is not None
    unet = session.kept.warm.bundle.unet.network
    told = (torch.ones(1, 4, 8, 8), torch.tensor(5), torch.ones(1, 77, 768))
    before = {name: type(each) for name, each in unet.attn_processors.items()}
    with torch.inference_mode():
        whole = unet(*told)[0]
        with sliced(unet):
            slices = unet(*told)[0]
            assert {type(each) for each in unet.attn_processors.values()} != set(before.values())
    assert torch.allclose(whole, slices, atol=1e-5)
    assert {name: type(each) for name, each in unet.attn_processors.items()} == before


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_the_peak_of_a_job_is_not_that_of_an_earlier_one() -> None:
    torch.ones(64 << 20).sum()
    before = process_peak()
    start_measuring(torch.device("cpu"))
    after = process_peak()
    assert before is not None
    assert after is not None
    assert after < before - (128 << 20)


def test_weights_that_are_converted_lie_in_one_piece_of_memory(models: Models) -> None:
    """So that it is huge pages; each begins where torch would have it begin."""
    numbers = np.random.default_rng(1)
    shapes = {"0.weight": (5, 3), "0.bias": (5,), "1.weight": (7, 5), "1.bias": (7,)}
    arrays = {name: numbers.normal(size=each).astype(np.float16) for name, each in shapes.items()}
    with unfilled():
        network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 7))
    path = models.write("layers", arrays)
    part = Part(network, open_model(path).state_dict, lambda state: state)
    fill(part, torch.device("cpu"), torch.float32, SILENT)
    weights = network.state_dict()
    assert {name: each.numpy().tolist() for name, each in weights.items()} == {
        name: each.astype(np.float32).tolist() for name, each in arrays.items()
    }
    assert len({each.untyped_storage().data_ptr() for each in weights.values()}) == 1
    assert [each.data_ptr() % 64 for each in weights.values()] == [0, 0, 0, 0]
