"""What is made for CUDA, on a device that only pretends to be one: it gives what the CPU gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from helpers.pretended_cuda import Pretended, pretended_cuda
from safetensors.numpy import load_file

from assetmgr.sampler.process import session as sessions
from assetmgr.sampler.process.jobs import RenderJob, RuntimeAdapter
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.rendering.render import Picture
from converters import devices
from converters.progress import SILENT

if TYPE_CHECKING:
    from conftest import Models

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OnBase = Callable[[Path, str], RenderJob]


@pytest.fixture(scope="module")
def there() -> Session:
    """Keeps the base on the device."""
    return Session()


@contextmanager
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretended]:
    with pretended_cuda(monkeypatch) as device, monkeypatch.context() as patch:
        patch.setattr(sessions, "choose_device", torch.device)  # which asks no driver
        yield device


def drawn(session: Session, job: RenderJob) -> Picture:
    outcome, picture = session.drawn(job, SILENT)
    assert picture is not None, outcome.checks
    return picture


def assert_equal(ours: Picture, theirs: Picture) -> None:
    assert ours.latents.device.type == ours.pixels.device.type == "cpu"
    assert torch.allclose(ours.latents, theirs.latents, atol=1e-4)


@pytest.fixture(scope="module")
def lora(models: Models) -> Path:
    """An adapter of a few layers."""
    arrays = load_file(models.lora("many"))
    few = ("attn2_to_k", "encoder_layers_0_mlp_fc1")
    return models.write("few", {name: a for name, a in arrays.items() if any(map(name.count, few))})


def subjects(models: Models, lora: Path, job: RenderJob, on_base: OnBase) -> Iterator[RenderJob]:
    """A render of each kind, and of an adapter that is beside its layers."""
    yield on_base(lora, "lora")
    beside = (RuntimeAdapter(str(lora)),)
    yield replace(job, adapters=beside, with_effect=False)
    for path, kind in ((models.embedding("glow"), "embedding"), (models.vae("whole"), "vae")):
        yield replace(on_base(path, kind), with_effect=False)


@pytest.mark.parametrize("low_vram", [False, True], ids=["at home", "for its turn"])
def test_every_kind_gives_the_latents_of_the_cpu(
    session: Session,
    there: Session,
    job: RenderJob,
    on_base: OnBase,
    models: Models,
    lora: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    low_vram: bool,
) -> None:
    for subject in subjects(models, lora, job, on_base):
        each = replace(subject, steps=1, with_effect=subject.with_effect and not low_vram)
        with cuda(monkeypatch):
            ours = drawn(there, replace(each, device="cuda", low_vram=low_vram))
        assert_equal(ours, drawn(session, each))


@pytest.mark.parametrize("sampler", ["DPM++ 2M Karras", "DDIM"])
def test_no_step_waits_for_the_device(
    there: Session, job: RenderJob, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for steps in (1, 2, 3):  # the first may have to load
        on_cuda = replace(job, device="cuda", sampler=sampler, steps=steps, with_effect=False)
        with cuda(monkeypatch) as device:
            drawn(there, on_cuda)
        counts.append(len(device.waits))
    assert counts[1] == counts[2] > 0


def test_a_merge_that_finds_no_room_there_is_made_elsewhere(
    session: Session,
    there: Session,
    on_base: OnBase,
    lora: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(_: str) -> None:
        if devices.device() == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")

    each = replace(on_base(lora, "lora"), steps=1, with_effect=False)
    with cuda(monkeypatch) as device:
        device.fails = no_room
        outcome, picture = there.drawn(replace(each, device="cuda"), SILENT)
    assert outcome.memory_fallbacks == ("offload", "tiled-vae")
    assert picture is not None
    assert_equal(picture, drawn(session, each))
