"""Faults planted in the trained family: each gets the verdict that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from assetmgr.sampler import examiner
from assetmgr.sampler.jobs import ModelFile, RenderJob
from assetmgr.sampler.session import Session
from converters.errors import TruncatedFile
from converters.progress import SILENT

# diffusers' schedulers convert tensors to arrays in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Arrays = dict[str, NDArray[np.generic]]
OnFamily = Callable[[str], RenderJob]

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."


def zeroed(arrays: Arrays, prefix: str) -> None:
    for name in [name for name in arrays if name.startswith(prefix)]:
        arrays[name] = np.zeros_like(arrays[name])


def shuffled(arrays: Arrays, prefix: str) -> None:
    """Exchange the tensors of equal shape among each other, as mixed-up names would."""
    numbers = np.random.default_rng(1)
    alike: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name in sorted(arrays):
        if name.startswith(prefix):
            part = name.rpartition(".")[2]
            alike.setdefault((part, arrays[name].shape), []).append(name)
    for names in alike.values():
        values = [arrays[names[place]] for place in numbers.permutation(len(names))]
        arrays.update(zip(names, values, strict=True))


@pytest.mark.parametrize(
    ("fault", "component", "found"),
    [
        (zeroed, VAE, {"not flat", "round trip"}),
        (zeroed, UNET, {"denoised", "removes noise"}),
        (zeroed, TEXT, {"prompt matters"}),
        (shuffled, UNET, {"removes noise"}),
        (shuffled, VAE, {"round trip"}),
    ],
    ids=["zeroed VAE", "zeroed UNet", "zeroed text encoder", "shuffled UNet", "shuffled VAE"],
)
def test_a_broken_component_fails_the_checks_that_ask_it(
    fault: Callable[[Arrays, str], None],
    component: str,
    found: set[str],
    on_family: OnFamily,
    tmp_path: Path,
) -> None:
    job = replace(on_family("checkpoint"), steps=6)
    arrays = load_file(job.subject.path)
    fault(arrays, component)
    save_file(arrays, tmp_path / "broken.safetensors")
    broken = replace(job.subject, path=str(tmp_path / "broken.safetensors"))
    outcome = Session().render(replace(job, subject=broken), SILENT)
    failed = {check.name for check in outcome.checks if not check.ok}
    assert found <= failed
    healthy = {"loads completely", "weights finite", "finite"}
    assert not failed & healthy


def test_a_text_encoder_without_embeddings_for_all_ids_fails_to_load_completely(
    session: Session, on_family: OnFamily, tmp_path: Path
) -> None:
    job = on_family("checkpoint")
    arrays = load_file(job.subject.path)
    table = f"{TEXT}transformer.text_model.embeddings.token_embedding.weight"
    arrays[table] = arrays[table][:512].copy()
    save_file(arrays, tmp_path / "small.safetensors")
    small = replace(job.subject, path=str(tmp_path / "small.safetensors"))
    (check,) = session.render(replace(job, subject=small), SILENT).checks
    assert (check.name, check.ok) == ("loads completely", False)
    assert f"token embeddings 512 to 49407 of the text encoder ({table})" in check.detail


def test_a_file_that_was_cut_off_is_refused_before_anything_is_loaded(
    session: Session, on_family: OnFamily, tmp_path: Path
) -> None:
    job = on_family("checkpoint")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(Path(job.subject.path).read_bytes()[:-1000])
    with pytest.raises(TruncatedFile):
        session.render(replace(job, subject=replace(job.subject, path=str(cut))), SILENT)


def test_a_lora_of_zeros_has_no_effect(
    session: Session, on_family: OnFamily, tmp_path: Path
) -> None:
    job = replace(on_family("lora"), steps=4)
    arrays = load_file(job.subject.path)
    for name in [name for name in arrays if not name.endswith("alpha")]:
        arrays[name] = np.zeros_like(arrays[name])
    save_file(arrays, tmp_path / "zeros.safetensors")
    zeros = replace(job.subject, path=str(tmp_path / "zeros.safetensors"))
    outcome = session.render(replace(job, subject=zeros), SILENT)
    assert [check.name for check in outcome.checks if not check.ok] == ["effect"]


def test_a_lora_with_a_matrix_beyond_all_measure_is_too_strong(
    session: Session, on_family: OnFamily, tmp_path: Path
) -> None:
    module = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    numbers = np.random.default_rng(1)
    arrays: Arrays = {
        f"{module}.lora_up.weight": np.full((768, 1), 6e4, np.float16),
        f"{module}.lora_down.weight": numbers.normal(0, 0.02, (1, 768)).astype(np.float16),
    }
    save_file(arrays, tmp_path / "strong.safetensors")
    job = replace(on_family("lora"), steps=2)
    strong = replace(job.subject, path=str(tmp_path / "strong.safetensors"))
    failed = [c for c in session.render(replace(job, subject=strong), SILENT).checks if not c.ok]
    assert "strength" in {check.name for check in failed}
    (check,) = (check for check in failed if check.name == "strength")
    assert "layers.0.self_attn.q_proj.weight" in check.detail
    assert check.value is not None
    assert check.threshold is not None
    assert check.value > 10 * check.threshold


@pytest.fixture(scope="module")
def exchanged(family: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelFile:
    """The family's checkpoint with two blocks exchanged, which paints no worse for it."""
    arrays = load_file(family / "checkpoint.safetensors")
    here, there = (f"{UNET}{block}." for block in ("input_blocks.4.1", "middle_block.1"))
    for name in [name for name in arrays if name.startswith(here)]:
        other = there + name.removeprefix(here)
        arrays[name], arrays[other] = arrays[other], arrays[name]
    path = tmp_path_factory.mktemp("exchanged") / "exchanged.safetensors"
    save_file(arrays, path)
    return ModelFile(str(path), "exchanged", "checkpoint")


def test_exchanged_blocks_are_found_by_a_relative_though_the_picture_is_good(
    session: Session, on_family: OnFamily, exchanged: ModelFile
) -> None:
    healthy = replace(on_family("checkpoint"), steps=6)
    job = replace(healthy, subject=exchanged, relatives=(healthy.subject,))
    failed = [check for check in session.render(job, SILENT).checks if not check.ok]
    assert [check.name for check in failed] == ["in place"]
    assert "input_blocks.4.1" in failed[0].detail
    assert "middle_block.1" in failed[0].detail


def test_a_checkpoint_is_not_blamed_for_the_exchanged_blocks_of_a_relative(
    session: Session, on_family: OnFamily, exchanged: ModelFile, tmp_path: Path
) -> None:
    healthy = replace(on_family("checkpoint"), steps=6)
    absent = replace(exchanged, path=str(tmp_path / "absent.safetensors"))
    job = replace(healthy, relatives=(absent, exchanged, healthy.subject, healthy.subject))
    outcome = session.render(job, SILENT)
    assert outcome.verdict == "ok", [check for check in outcome.checks if not check.ok]
    (check,) = (check for check in outcome.checks if check.name == "in place")
    assert "'exchanged'; exchanged there" in check.detail


@pytest.mark.parametrize("seed", range(11, 15))
def test_the_trained_family_passes_whatever_the_seed(
    session: Session, on_family: OnFamily, seed: int
) -> None:
    prompts = ("a red circle on a white background", "a small blue square", "neon ring", "an apple")
    job = replace(on_family("checkpoint"), seed=seed, prompt=prompts[seed % 4])
    outcome = session.render(job, SILENT)
    assert outcome.verdict == "ok", [check for check in outcome.checks if not check.ok]


def test_relatives_that_cannot_be_read_cost_nothing(
    session: Session, on_family: OnFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(on_family("checkpoint"), steps=6)

    def breaks(*_: object) -> None:
        raise TruncatedFile("ends in the middle", path="relative.safetensors")

    monkeypatch.setattr(examiner, "likeness", breaks)
    outcome = session.render(replace(job, relatives=(job.subject,)), SILENT)
    assert outcome.verdict == "ok"
    assert "in place" not in {check.name for check in outcome.checks}
