"""`merge adapters`: what fits is merged and told, what does not is refused with nothing written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import numpy as np
import pytest
from helpers import sd1
from safetensors import safe_open

if TYPE_CHECKING:
    from conftest import Models, Program

TEXT_TENSOR = sd1.CLIP + "encoder.layers.0.self_attn.q_proj.weight"
UNET_TENSOR = (
    sd1.UNET + "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"  # down block 0, layer 0
)


def _tensors(path: Path, *names: str) -> Iterator[np.ndarray]:
    with safe_open(path, "np") as file:
        for name in names:
            yield file.get_tensor(name).astype(np.float32)


def test_several_adapters_are_merged_with_their_own_weights(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    done = program(
        "merge", "adapters", "--json", models.checkpoint,
        f"{models.lora}=0.5,0", f"{models.unet_lora}=-0.25", "-o", target,
    )  # fmt: skip
    assert done.code == 0
    found = done.json
    assert set(found) >= {"target", "adapters", "changed_tensors"}
    assert found["target"] == str(target)
    first, second = found["adapters"]
    assert {"path", "algorithm", "applied", "unused"} <= set(first)
    assert (first["weight"], first["text_encoder_weight"]) == (0.5, 0)
    assert (second["weight"], second["text_encoder_weight"]) == (-0.25, None)
    assert first["unused"] == second["unused"] == []
    before = dict(zip("tu", _tensors(models.checkpoint, TEXT_TENSOR, UNET_TENSOR), strict=True))
    after = dict(zip("tu", _tensors(target, TEXT_TENSOR, UNET_TENSOR), strict=True))
    assert (before["t"] == after["t"]).all(), "the text encoder's weight was 0"
    assert (before["u"] != after["u"]).any()


def test_the_merged_values_are_the_formula(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    program("merge", "adapters", models.checkpoint, f"{models.lora}=0.5,2", "-o", target)
    (before,), (after,) = _tensors(models.checkpoint, TEXT_TENSOR), _tensors(target, TEXT_TENSOR)
    name = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    parts = (f"{name}.lora_up.weight", f"{name}.lora_down.weight", f"{name}.alpha")
    up, down, alpha = _tensors(models.lora, *parts)
    expected = before + 2 * (alpha / down.shape[0]) * (up @ down)
    assert np.allclose(after, expected.astype(np.float16), atol=1e-3)


def test_the_result_knows_all_its_parents(program: Program, models: Models, tmp_path: Path) -> None:
    program("scan", models.folder)
    target = tmp_path / "out.safetensors"
    done = program(
        "merge", "adapters", "--json", models.checkpoint, f"{models.lora}=0.8,0.5", "-o", target
    )
    shown = program("show", "--json", f"#{done.json['asset']}").json
    lines = shown["derived_from"]
    assert [line["name"] for line in lines] == [models.checkpoint.name, models.lora.name]
    assert all(line["asset"] for line in lines)
    assert {line["operation"] for line in lines} == {"merge adapters"}
    (weights,) = lines[0]["parameters"]["adapters"]
    assert weights == {"adapter": models.lora.name, "weight": 0.8, "text_encoder": 0.5}
    assert (shown["kind"], shown["base"]) == ("checkpoint", "sd-1")


def test_assets_may_be_named_by_number_hash_and_name(
    program: Program, models: Models, tmp_path: Path
) -> None:
    program("scan", models.folder)
    assets = program("list", "--json").json["assets"]
    by_file = {Path(asset["files"][0]["path"]).name: asset for asset in assets}
    base, style = by_file[models.checkpoint.name], by_file[models.lora.name]
    done = program(
        "merge", "adapters", "--json", "--dry-run", f"#{base['id']}",
        style["hashes"]["sha256"][:10], f"{style['name']}=0.5", "-o", tmp_path / "x.safetensors",
    )  # fmt: skip
    assert done.code == 0
    assert [Path(a["path"]).name for a in done.json["adapters"]] == [models.lora.name] * 2
    assert not (tmp_path / "x.safetensors").exists()


def test_an_adapter_of_another_family_is_refused_before_anything_is_written(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    for extra in ([], ["--partial"]):
        done = program(
            "merge", "adapters", "--json", models.checkpoint, models.sdxl_lora, "-o", target, *extra
        )
        assert done.code == 1
        (error,) = done.json["errors"]
        assert error["code"] == "wrong_family"
        assert error["path"] == str(models.sdxl_lora)
        assert "SDXL" in error["error"]
    assert list(tmp_path.iterdir()) == []


def test_keys_without_a_place_are_an_error_unless_partial(
    program: Program, models: Models, tmp_path: Path
) -> None:
    modules = sd1.kohya_modules(cli_models.WIDTHS)
    width = cli_models.WIDTHS.channels[0]
    modules["lora_unet_down_blocks_9_attentions_0_transformer_blocks_0_attn1_to_q"] = (width, width)
    odd = cli_models.tensors(tmp_path / "odd.safetensors", sd1.lora_shapes(modules))
    target = tmp_path / "out.safetensors"
    done = program("merge", "adapters", models.checkpoint, odd, "-o", target)
    assert done.code == 1
    assert "down_blocks_9" in done.errors[0]
    assert not target.exists()
    done = program("merge", "adapters", "--json", models.checkpoint, odd, "-o", target, "--partial")
    assert done.code == 0
    (adapter,) = done.json["adapters"]
    assert len(adapter["unused"]) == 3
    assert all("down_blocks_9" in key for key in adapter["unused"])


@pytest.mark.parametrize("word", ["fp32", "bf16"])
def test_the_result_has_the_precision_that_was_asked_for(
    word: str, program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    arguments = ("merge", "adapters", models.checkpoint, models.unet_lora, "-o", target)
    assert program(*arguments, "--dtype", word).code == 0
    (found,) = program("inspect", "--json", target).json
    assert set(found["dtypes"]) == {{"fp32": "F32", "bf16": "BF16"}[word], "I64"}


def test_neither_a_source_nor_an_existing_file_is_a_target(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    done = program("merge", "adapters", models.checkpoint, models.lora, "-o", target)
    assert (done.code, target.read_text()) == (1, "precious")
    own = program(
        "merge", "adapters", models.checkpoint, models.lora, "-o", models.lora, "--overwrite"
    )
    assert own.code == 2
    assert "is also a source" in own.errors[0]


def test_a_file_whose_name_holds_an_equals_sign_is_a_file(
    program: Program, models: Models, tmp_path: Path
) -> None:
    odd = cli_models.lora(tmp_path / "x=0.5", text=False)
    done = program(
        "merge", "adapters", "--json", "--dry-run", models.checkpoint, odd, "-o", tmp_path / "o"
    )
    assert done.json["adapters"][0]["weight"] == 1.0
