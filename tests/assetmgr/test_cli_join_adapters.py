"""`merge adapters-into-one` and adapters under other names: worth the same when merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest
from helpers import sd1
from safetensors.torch import load_file

from converters.dtypes import DType
from converters.writers.safetensors import write_safetensors

if TYPE_CHECKING:
    from conftest import Models, Program

JOINED = {
    *("target", "adapters", "parameters", "modules", "error", "tensors", "bytes", "seconds"),
    *("hashes", "warnings", "asset", "errors"),
}


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second LoRA, of some of the modules of the first one's family."""
    modules = dict(list(sd1.kohya_modules(cli_models.WIDTHS).items())[::2])
    fill = sd1.random_fill(DType.F32, 0.05)
    state = sd1.state_dict(sd1.lora_shapes(modules, 3), DType.F32, fill=fill)
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    return write_safetensors(state, path, with_hashes=False).path


def test_the_sum_merges_as_its_parts_one_after_the_other(
    program: Program, models: Models, other: Path, tmp_path: Path
) -> None:
    joined = tmp_path / "joined.safetensors"
    choice = (f"{models.lora}=0.5", f"{other}=2,0.25")
    done = program("merge", "adapters-into-one", *choice, "--dtype", "fp32", "-o", joined, "--json")
    assert done.json.keys() == JOINED
    assert done.json["error"] < 1e-6
    assert [part["text_encoder_weight"] for part in done.json["adapters"]] == [None, 0.25]
    merged = [tmp_path / f"{number}.safetensors" for number in range(2)]
    options = ("--dtype", "fp32", "-o")
    program("merge", "adapters", models.checkpoint, joined, *options, merged[0])
    program("merge", "adapters", models.checkpoint, *choice, *options, merged[1])
    one, two = map(load_file, merged)
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert (tensor - two[name]).abs().max() <= 1e-5, name


def test_what_is_made_of_an_adapter_of_peft_has_the_scale_that_lies_beside_it(
    program: Program, models: Models, other: Path, tmp_path: Path
) -> None:
    folder, small = tmp_path / "fox", tmp_path / "small.safetensors"
    assert program("convert", models.unet_lora, "--layout", "peft", "-o", folder).code == 0
    source = folder / "adapter_model.safetensors"
    joined = tmp_path / "joined.safetensors"
    options = ("--dtype", "fp32", "-o")
    assert program("resize", source, "--rank", "4", *options, small).code == 0
    assert program("merge", "adapters-into-one", source, other, *options, joined).code == 0
    for made, parts in ((small, [models.unet_lora]), (joined, [models.unet_lora, other])):
        merges = [tmp_path / f"{number}.safetensors" for number in range(2)]
        for target, adapters in zip(merges, ([made], parts), strict=True):
            call = ("merge", "adapters", models.checkpoint, *adapters, "--overwrite")
            assert program(*call, *options, target).code == 0
        one, two = map(load_file, merges)
        assert all((tensor - two[name]).abs().max() <= 1e-5 for name, tensor in one.items())


def test_a_truncated_sum_tells_what_it_lacks_and_where_it_comes_from(
    program: Program, models: Models, other: Path, tmp_path: Path
) -> None:
    target = tmp_path / "small.safetensors"
    done = program(
        "merge", "adapters-into-one", models.lora, other, "--rank", "1", "-o", target, "--json"
    )
    assert {module["rank"] for module in done.json["modules"]} == {1}
    assert 0 < done.json["error"] < 1
    shown = program("show", target, "--json").json
    assert [parent["name"] for parent in shown["derived_from"]] == [models.lora.name, other.name]
    assert {parent["operation"] for parent in shown["derived_from"]} == {"merge adapters-into-one"}


def test_a_plan_writes_nothing(
    program: Program, models: Models, other: Path, tmp_path: Path
) -> None:
    target = tmp_path / "joined.safetensors"
    planned = program(
        "merge", "adapters-into-one", models.lora, other, "-o", target, "--dry-run", "--json"
    )
    assert planned.json.keys() == JOINED
    assert planned.json["error"] is None
    assert not target.exists()


def test_what_cannot_be_joined_is_one_error_and_nothing_is_written(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "joined.safetensors"
    sdxl = sd1.state_dict(
        {
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": (5120, 1),
            "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (1, 1280),
        },
        fill=sd1.random_fill(),
    )
    foreign = write_safetensors(sdxl, tmp_path / "xl.safetensors", with_hashes=False).path
    done = program("merge", "adapters-into-one", models.lora, foreign, "-o", target)
    assert done.code == 1
    assert done.err.count("error:") == 1
    assert "is for" in done.err
    module = next(iter(sd1.kohya_modules(cli_models.WIDTHS)))
    shapes = {f"{module}.lora_up.weight": (3, 1), f"{module}.lora_down.weight": (1, 3)}
    misfit = cli_models.tensors(tmp_path / "misfit.safetensors", shapes)
    done = program("merge", "adapters-into-one", "--json", models.unet_lora, misfit, "-o", target)
    assert [error["path"] for error in done.json["errors"]] == [str(misfit)]
    done = program("merge", "adapters-into-one", models.lora, models.checkpoint, "-o", target)
    assert done.code == 1
    assert not target.exists()


def test_an_adapter_under_other_names_is_the_same_when_merged(
    program: Program, models: Models, tmp_path: Path
) -> None:
    renamed = tmp_path / "renamed.safetensors"
    options = ("--layout", "diffusers", "--verify", "--json")
    done = program("convert", models.lora, "-o", renamed, *options)
    assert done.code == 0, done.err
    targets = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for adapter, target in zip((models.lora, renamed), targets, strict=True):
        program("merge", "adapters", models.checkpoint, adapter, "-o", target)
    one, two = map(load_file, targets)
    assert all((one[name] == two[name]).all() for name in one)
