"""`extract lora` and `resize`: what is written and told, and what it is worth when merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import numpy as np
import pytest
from helpers import pipelines, sd1
from safetensors.numpy import load_file

from converters.dtypes import DType
from converters.statedict import StateDict
from converters.writers.safetensors import write_safetensors

if TYPE_CHECKING:
    from conftest import Models, Program

QUERY = sd1.UNET + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
TEXT = sd1.CLIP + "encoder.layers.0.mlp.fc1.weight"
NORM = sd1.UNET + "out.0.weight"
CHANGED = (QUERY, TEXT, NORM)
EXTRACTED = {
    *("target", "tuned", "base", "parameters", "modules", "error", "unchanged", "left_out"),
    *("tensors", "bytes", "seconds", "hashes", "warnings", "asset", "errors"),
}
RESIZED = EXTRACTED - {"tuned", "base", "unchanged", "left_out"} | {"source"}


def _floats(path: Path) -> dict[str, np.ndarray]:
    return {name: values.astype(np.float32) for name, values in load_file(path).items()}


def _tuned(base: StateDict) -> StateDict:
    random = np.random.default_rng(7)
    added = {}
    for name in CHANGED:
        values = np.frombuffer(bytes(base[name].read()), np.float16).astype(np.float32)
        values = values + 0.02 * random.standard_normal(values.size)
        added[name] = sd1.stored(DType.F16, base[name].shape, values.astype("<f2").tobytes(), name)
    return base.overlay(added)


@pytest.fixture(scope="session")
def tuned(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the models with three tensors trained on."""
    shapes = sd1.checkpoint_shapes(cli_models.WIDTHS)
    state = _tuned(sd1.state_dict(shapes, fill=sd1.random_fill()))
    path = tmp_path_factory.mktemp("tuned") / "tuned.safetensors"
    return write_safetensors(state, path, with_hashes=False).path


def test_a_lora_is_extracted_and_told(
    program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    target = tmp_path / "style.safetensors"
    done = program(
        "extract", "lora", "--json", tuned, models.checkpoint, "--rank", "4", "-o", target
    )
    assert done.code == 0, done.err
    found = done.json
    assert set(found) == EXTRACTED
    assert (found["tuned"], found["base"]) == (str(tuned), str(models.checkpoint))
    assert found["parameters"] == {
        "rank": 4, "energy": None, "convolutions": False, "dtype": "fp16"
    }  # fmt: skip
    assert {module["name"] for module in found["modules"]} == {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_te_text_model_encoder_layers_0_mlp_fc1",
    }
    assert all(set(module) == {"name", "rank", "error"} for module in found["modules"])
    assert all(module["rank"] == 4 and 0 < module["error"] < 1 for module in found["modules"])
    assert 0 < found["error"] < 1
    assert found["left_out"] == ["unet.conv_norm_out.weight"]
    assert "1 tensors differ that this LoRA does not hold" in found["warnings"][0]
    assert (found["tensors"], found["bytes"]) == (6, target.stat().st_size)
    (seen,) = program("inspect", "--json", target).json
    assert (seen["kind"], seen["base"], seen["algorithm"]) == ("lora", "sd-1", ["lora"])
    assert (seen["rank"], seen["metadata"]["ss_network_dim"]) == (4, "4")


@pytest.mark.parametrize("size", [("--rank", "64"), ("--rank", "8"), ("--energy", "0.9")])
def test_merged_into_its_base_it_is_the_tuned_model_within_the_stated_error(
    size: tuple[str, str], program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    lora, again = tmp_path / "style.safetensors", tmp_path / "again.safetensors"
    told = program("extract", "lora", "--json", tuned, models.checkpoint, *size, "-o", lora).json
    done = program("merge", "adapters", models.checkpoint, lora, "-o", again, "--dtype", "fp32")
    assert done.code == 0, done.err
    wanted, found, base = map(_floats, (tuned, again, models.checkpoint))
    missing = sum(np.square(wanted[name] - found[name]).sum() for name in (QUERY, TEXT))
    whole = sum(np.square(wanted[name] - base[name]).sum() for name in (QUERY, TEXT))
    assert np.sqrt(missing / whole) == pytest.approx(told["error"], rel=0.02, abs=2e-3)


def test_a_tuned_model_whose_difference_is_a_lora_comes_back(
    program: Program, models: Models, tmp_path: Path
) -> None:
    merged, lora = tmp_path / "merged.safetensors", tmp_path / "lora.safetensors"
    program("merge", "adapters", models.checkpoint, models.lora, "-o", merged, "--dtype", "fp32")
    told = program(
        "extract", "lora", "--json", merged, models.checkpoint, "--rank", "4", "-o", lora
    ).json
    assert len(told["modules"]) == 7
    assert told["error"] < 1e-3
    assert told["left_out"] == []


def _trained(state: StateDict) -> StateDict:
    """Weights of every kind that a LoRA holds, with something of rank 2 added."""
    random = np.random.default_rng(3)
    added = {}
    for name, tensor in state.items():
        trained = name.endswith(("to_k.weight", "fc1.weight", "c_fc.weight", "out_proj.weight"))
        if trained or name == FIRST_CONV:
            values = np.frombuffer(bytes(tensor.read()), np.float32).reshape(tensor.shape[0], -1)
            left, right = (random.standard_normal((n, 2)) for n in values.shape)
            values = (values + 0.02 * left @ right.T).astype(np.float32)
            added[name] = sd1.stored(DType.F32, tensor.shape, values.tobytes(), name)
    return state.overlay(added)


FIRST_CONV = sd1.UNET + "input_blocks.1.0.in_layers.2.weight"


@pytest.mark.parametrize("family", ["sd-2", "sdxl", "sdxl-refiner"])
def test_every_family_comes_back_through_its_lora(
    family: str, program: Program, tmp_path: Path
) -> None:
    state = pipelines.checkpoint(family, DType.F32, text_layers=1)
    base, tuned, lora, again = (tmp_path / f"{n}.safetensors" for n in ("a", "b", "lora", "c"))
    write_safetensors(state, base, with_hashes=False)
    write_safetensors(_trained(state), tuned, with_hashes=False)
    size = ("--rank", "2", "--conv", "--dtype", "fp32")
    told = program("extract", "lora", "--json", tuned, base, *size, "-o", lora).json
    assert told["error"] < 1e-5
    done = program("merge", "adapters", base, lora, "-o", again)
    assert done.code == 0, done.err
    unseen = "transformer.resblocks.1." if family == "sd-2" else "nothing"
    wanted, found = _floats(tuned), _floats(again)
    for name in state:
        if unseen not in name:
            assert np.allclose(wanted[name], found[name], atol=1e-5), name


def test_the_result_knows_both_its_parents(
    program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    target = tmp_path / "style.safetensors"
    done = program(
        "extract", "lora", "--json", tuned, models.checkpoint, "--energy", "0.5", "-o", target
    )
    lines = program("show", "--json", f"#{done.json['asset']}").json["derived_from"]
    assert [line["name"] for line in lines] == [tuned.name, models.checkpoint.name]
    assert {line["operation"] for line in lines} == {"extract lora"}
    assert lines[0]["parameters"]["energy"] == 0.5


def test_a_dry_run_names_the_modules_and_writes_nothing(
    program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    call = ("extract", "lora", "--json", "--dry-run", tuned, models.checkpoint, "--rank", "4")
    found = program(*call, "-o", tmp_path / "x.safetensors").json
    assert set(found) == EXTRACTED
    assert len(found["modules"]) > 10
    call = ("resize", "--json", "--dry-run", models.lora, "--rank", "2")
    found = program(*call, "-o", tmp_path / "x.safetensors").json
    assert set(found) == RESIZED
    assert {module["old_rank"] for module in found["modules"]} == {4}
    assert list(tmp_path.iterdir()) == []


def test_convolutions_are_extracted_on_request(
    program: Program, models: Models, tmp_path: Path
) -> None:
    shapes = sd1.checkpoint_shapes(cli_models.WIDTHS)
    name = sd1.UNET + "input_blocks.1.0.in_layers.2.weight"
    state = sd1.state_dict(shapes, fill=sd1.random_fill())
    zero = sd1.stored(DType.F16, state[name].shape, b"\0" * state[name].nbytes, name)
    other = write_safetensors(state.overlay({name: zero}), tmp_path / "tuned.safetensors").path
    call = ("extract", "lora", "--json", other, models.checkpoint, "--rank", "4", "-o")
    without = program(*call, tmp_path / "none.safetensors")
    assert without.code == 1
    assert "there is nothing to extract" in without.json["errors"][0]["error"]
    found = program(*call, tmp_path / "conv.safetensors", "--conv").json
    assert [module["name"] for module in found["modules"]] == [
        "lora_unet_down_blocks_0_resnets_0_conv1"
    ]


@pytest.mark.parametrize("family", ["sd-1", "sd-2", "sdxl"])
def test_a_full_difference_brings_the_tuned_model_back(
    family: str, program: Program, tmp_path: Path
) -> None:
    state = pipelines.checkpoint(family, DType.F32, text_layers=1)
    kept = state.select(
        lambda name: "resblocks.1." not in name or family != "sd-2"
    )  # SD2's, which nothing uses
    norm, bias = (sd1.UNET + f"out.{n}" for n in ("0.weight", "2.bias"))
    tuned = _trained(state)
    for name in (norm, bias):
        values = np.frombuffer(bytes(tuned[name].read()), np.float32) + np.float32(0.5)
        changed = sd1.stored(DType.F32, tuned[name].shape, values.tobytes(), name)
        tuned = tuned.overlay({name: changed})
    base, other, diff, again = (tmp_path / f"{n}.safetensors" for n in ("a", "b", "diff", "c"))
    write_safetensors(state, base, with_hashes=False)
    write_safetensors(tuned, other, with_hashes=False)
    told = program("extract", "full", "--json", other, base, "--dtype", "fp32", "-o", diff).json
    assert told["tensors"] < 60
    (seen,) = program("inspect", "--json", diff).json
    assert (seen["kind"], seen["base"], seen["algorithm"]) == ("lora", family, ["full", "norm"])
    assert program("merge", "adapters", base, diff, "-o", again).code == 0
    wanted, found = _floats(other), _floats(again)
    for name in kept:
        assert np.allclose(wanted[name], found[name], atol=1e-6), name


def test_nothing_is_extracted_of_a_model_that_is_the_same_as_its_base(
    program: Program, models: Models, tmp_path: Path
) -> None:
    same = shutil.copy(models.checkpoint, tmp_path / "same.safetensors")
    for call in (("full",), ("lora", "--rank", "4")):
        done = program("extract", *call, "--json", same, models.checkpoint, "-o", tmp_path / "none")
        assert done.code == 1
        assert "is the same as the base" in done.json["errors"][0]["error"]


def test_a_share_of_the_norm_is_the_root_of_that_of_the_energy(
    program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    call = ("extract", "lora", "--json", tuned, models.checkpoint, "-o")
    by_norm = program(*call, tmp_path / "a.safetensors", "--norm", "0.9").json
    by_energy = program(*call, tmp_path / "b.safetensors", "--energy", "0.81").json
    assert by_norm["modules"] == by_energy["modules"]
    assert by_norm["error"] ** 2 <= 1 - 0.81 + 1e-6
    both = program(*call, tmp_path / "c.safetensors", "--norm", "0.9", "--rank", "4")
    assert (both.code, both.json["errors"][0]["code"]) == (2, "bad_value")
    none = program("resize", models.lora, "--norm", "0", "-o", tmp_path / "d.safetensors")
    assert none.code == 2


def test_a_lora_is_resized_and_told(program: Program, models: Models, tmp_path: Path) -> None:
    target = tmp_path / "small.safetensors"
    done = program("resize", "--json", models.lora, "--rank", "2", "-o", target)
    assert done.code == 0, done.err
    found = done.json
    assert set(found) == RESIZED
    assert {(m["rank"], m["old_rank"]) for m in found["modules"]} == {(2, 4)}
    assert all(set(m) == {"name", "rank", "old_rank", "error"} for m in found["modules"])
    assert 0 < found["error"] < 1
    (seen,) = program("inspect", "--json", target).json
    assert (seen["kind"], seen["base"], seen["rank"]) == ("lora", "sd-1", 2)
    assert seen["metadata"]["ss_output_name"] == "style"
    assert seen["metadata"]["ss_network_dim"] == "2"
    (line,) = program("show", "--json", f"#{found['asset']}").json["derived_from"]
    assert (line["name"], line["operation"]) == (models.lora.name, "resize")


def test_a_full_difference_with_norms_is_resized_without_losing_any(
    program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    full, small = tmp_path / "full.safetensors", tmp_path / "small.safetensors"
    assert program("extract", "full", tuned, models.checkpoint, "-o", full).code == 0
    done = program("resize", "--json", full, "--norm", "1", "-o", small)
    assert done.code == 0, done.err
    assert {m["name"] for m in done.json["modules"] if m["rank"] is None} == {
        key for key in load_file(full) if key.endswith("w_norm")
    }
    assert "are kept" in done.json["warnings"][0]
    assert "are kept" in done.err
    merged = [tmp_path / f"{number}.safetensors" for number in range(2)]
    for adapter, target in zip((full, small), merged, strict=True):
        call = ("merge", "adapters", models.checkpoint, adapter, "--dtype", "fp32", "-o", target)
        assert program(*call).code == 0
    ours, theirs = map(_floats, merged)
    for name, values in ours.items():
        assert np.abs(values - theirs[name]).max() < 1e-3, name


def test_people_are_told_what_is_missing(
    program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    target = tmp_path / "a.safetensors"
    done = program("extract", "lora", tuned, models.checkpoint, "--rank", "4", "-o", target)
    assert "2 modules" in done.out
    assert "% of the difference missing" in done.out
    done = program("resize", target, "--energy", "0.5", "-o", tmp_path / "b.safetensors")
    assert "% of the change missing" in done.out


def test_what_cannot_be_done_is_one_error_and_nothing_is_written(
    program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    state = pipelines.checkpoint("sdxl", text_layers=1)
    sdxl = write_safetensors(state, tmp_path / "xl.safetensors", with_hashes=False).path
    base, target = models.checkpoint, tmp_path / "out.safetensors"
    for call, code, path in (
        (("extract", "lora", tuned, base), "bad_value", None),
        (("extract", "lora", tuned, base, "--rank", "0"), "bad_value", None),
        (("extract", "lora", tuned, base, "--rank", "4", "--energy", "1"), "bad_value", None),
        (("extract", "lora", tuned, tuned, "--rank", "4"), "bad_value", tuned),
        (("extract", "lora", sdxl, base, "--rank", "4"), "wrong_family", sdxl),
        (("extract", "lora", models.lora, base, "--rank", "4"), "wrong_family", models.lora),
        (("resize", models.lora), "bad_value", None),
        (("resize", models.lora, "--energy", "2"), "bad_value", None),
        (("resize", base, "--rank", "4"), "unsupported", base),
    ):
        done = program(*call, "--json", "-o", target)
        (error,) = done.json["errors"]
        assert (error["code"], error["path"]) == (code, path and str(path)), call
    assert list(tmp_path.iterdir()) == [sdxl]


def test_neither_a_source_nor_an_existing_file_is_a_target(
    program: Program, models: Models, tuned: Path, tmp_path: Path
) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    size = ("--rank", "2", "-o")
    assert program("extract", "lora", tuned, models.checkpoint, *size, target).code == 1
    assert program("resize", models.lora, *size, target).code == 1
    assert target.read_text() == "precious"
    assert program("resize", models.lora, *size, models.lora, "--overwrite").code == 2
    own = program("extract", "lora", tuned, models.checkpoint, *size, tuned, "--overwrite")
    assert "is also a source" in own.errors[0]
