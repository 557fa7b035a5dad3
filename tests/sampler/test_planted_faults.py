"""Faults planted in the trained family: each gets the verdict that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from assetmgr.operations.preview.job import DEFAULT_STEPS
from assetmgr.sampler.process.jobs import Check, ModelFile, RenderJob
from assetmgr.sampler.process.session import Session
from assetmgr.sampler.rendering.solvers import DEFAULT_SOLVER
from assetmgr.sampler.verdicts import examiner
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


Exchanging = Callable[[str, str], ModelFile]


@pytest.fixture(scope="module")
def exchanged(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Exchanging:
    """The family's checkpoint with two blocks exchanged."""
    arrays = load_file(family / "checkpoint.safetensors")
    folder = tmp_path_factory.mktemp("exchanged")

    def make(first: str, second: str) -> ModelFile:
        mixed = dict(arrays)
        here, there = (f"{UNET}{block}." for block in (first, second))
        for name in [name for name in arrays if name.startswith(here)]:
            other = there + name.removeprefix(here)
            mixed[name], mixed[other] = arrays[other], arrays[name]
        path = folder / f"{first} {second}.safetensors"
        save_file(mixed, path)
        return ModelFile(str(path), "exchanged", "checkpoint")

    return make


def test_exchanged_blocks_are_found_by_one_relative_where_the_network_suffers(
    session: Session, on_family: OnFamily, exchanged: Exchanging
) -> None:
    healthy = replace(on_family("checkpoint"), steps=6)
    mixed = exchanged("output_blocks.4.1", "output_blocks.11.1")
    (check,) = _in_place(session, replace(healthy, subject=mixed, relatives=(healthy.subject,)))
    assert not check.ok
    assert "output_blocks.4.1" in check.detail
    assert "output_blocks.11.1" in check.detail
    (check,) = _in_place(session, replace(healthy, relatives=(mixed,)))
    assert check.ok
    assert "'exchanged'; exchanged there" in check.detail


def _in_place(session: Session, job: RenderJob) -> list[Check]:
    return [check for check in session.render(job, SILENT).checks if check.name == "in place"]


def test_blocks_that_do_next_to_nothing_are_told_by_most_files_and_not_by_one(
    session: Session, on_family: OnFamily, exchanged: Exchanging, tmp_path: Path
) -> None:
    healthy = replace(on_family("checkpoint"), steps=2)
    mixed = exchanged("input_blocks.4.1", "middle_block.1")
    absent = replace(mixed, path=str(tmp_path / "absent.safetensors"))
    sound, told = healthy.subject, []
    for subject, relatives in (
        (sound, (mixed,)),
        (sound, (mixed, sound)),
        (mixed, (sound, absent, sound)),
    ):
        (check,) = _in_place(session, replace(healthy, subject=subject, relatives=relatives))
        told.append((check.ok, check.detail.split(": ")[0].split("; ")[1]))
    assert told == [
        (True, "exchanged in one of the two, a third of the family would tell in which"),
        (True, "exchanged there"),
        (False, "exchanged"),
    ]


@pytest.mark.parametrize("seed", range(11, 15))
def test_the_trained_family_passes_whatever_the_seed(
    session: Session, on_family: OnFamily, seed: int
) -> None:
    prompts = ("a red circle on a white background", "a small blue square", "neon ring", "an apple")
    few, usual = ("DPM++ 2M", 10), (DEFAULT_SOLVER, DEFAULT_STEPS)
    sampler, steps = few if seed < 13 else usual
    job = replace(on_family("checkpoint"), seed=seed, prompt=prompts[seed % 4])
    job = replace(job, sampler=sampler, steps=steps)
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
