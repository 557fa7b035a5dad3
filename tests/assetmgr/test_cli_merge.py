"""`merge adapters`: what fits is merged and told, what does not is refused with nothing written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import numpy as np
import pytest
import torch
from helpers import mmdit, pipelines, sd1
from helpers.gguf import gguf
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from converters.writers.safetensors import write_safetensors

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


def test_a_target_of_another_ending_is_warned_of(
    program: Program, models: Models, tmp_path: Path
) -> None:
    call = ("merge", "adapters", models.checkpoint, models.lora, "--dry-run", "-o")
    done = program(*call, tmp_path / "out.ckpt")
    assert (done.code, "out.ckpt: will hold safetensors" in done.err) == (0, True)
    for silent in (("out.safetensors",), ("out.ckpt", "--quiet")):
        assert program(*call, tmp_path / silent[0], *silent[1:]).err == ""


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
    base, style, unet = (
        by_file[path.name] for path in (models.checkpoint, models.lora, models.unet_lora)
    )
    done = program(
        "merge", "adapters", "--json", "--dry-run", f"#{base['id']}",
        style["hashes"]["sha256"][:10], f"{unet['name']}=0.5", "-o", tmp_path / "x.safetensors",
    )  # fmt: skip
    assert done.code == 0
    assert [Path(a["path"]).name for a in done.json["adapters"]] == [
        models.lora.name,
        models.unet_lora.name,
    ]
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


@pytest.mark.skipif(os.name != "posix", reason="devices are files there only")
def test_what_is_there_but_no_file_is_said_to_be_none(
    program: Program, models: Models, tmp_path: Path
) -> None:
    for reference, cause in ((os.devnull, "is not a regular file"), (tmp_path, "is a folder")):
        done = program("merge", "adapters", models.checkpoint, reference, "-o", tmp_path / "x")
        assert done.code == 1
        assert cause in done.errors[0]


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


ADAPTER = {
    *("path", "kind", "algorithm", "weight", "text_encoder_weight", "block_weights"),
    *("applied", "components", "unused", "unused_reasons"),
    *("change_norm", "largest_change", "overflow", "by_component"),
}


def test_values_too_large_for_the_precision_are_an_error_or_clamped_and_named(
    program: Program, models: Models, tmp_path: Path
) -> None:
    call = ("merge", "adapters", "--json", models.checkpoint, f"{models.unet_lora}=1e12")
    refused = program(*call, "-o", tmp_path / "x")
    (error,) = refused.json["errors"]
    assert (refused.code, error["code"], error["path"]) == (
        *(1, "merge_problem", str(models.unet_lora)),
    )
    assert "--on-overflow clamp" in error["hint"]
    assert list(tmp_path.iterdir()) == []
    done = program(*call, "--on-overflow", "clamp", "-o", tmp_path / "x")
    found = done.json
    assert done.code == 0
    assert UNET_TENSOR in found["overflow"]
    (adapter,) = found["adapters"]
    assert adapter["overflow"] == sum(found["overflow"].values())
    assert [part["overflow"] for part in adapter["by_component"]] == [adapter["overflow"]]
    assert "too large and are clamped" in found["warnings"][0]
    (merged,) = _tensors(tmp_path / "x", UNET_TENSOR)
    assert np.abs(merged).max() == 65504


def test_the_report_says_what_each_adapter_did(
    program: Program, models: Models, tmp_path: Path
) -> None:
    call = ("merge", "adapters", "--json", models.checkpoint, f"{models.lora}=0.5,0")
    planned = program(*call, "-o", tmp_path / "x", "--dry-run").json["adapters"][0]
    done = program(*call, "-o", tmp_path / "x").json["adapters"][0]
    assert set(planned) == set(done) == ADAPTER
    assert (planned["change_norm"], planned["largest_change"], planned["overflow"]) == (None,) * 3
    assert done["kind"] == "lora"
    assert done["components"] == {"unet": 5, "text_encoder": 2}
    assert 0 < done["largest_change"]["norm"] < done["change_norm"]
    assert done["largest_change"]["tensor"].startswith(sd1.UNET), "the text encoder had weight 0"
    assert (done["overflow"], done["unused_reasons"]) == (0, {})


def test_why_a_key_is_unused_is_told(program: Program, models: Models, tmp_path: Path) -> None:
    shapes = sd1.lora_shapes(sd1.kohya_modules(cli_models.WIDTHS)) | {"lora_unet_x.alpha": ()}
    odd = cli_models.tensors(tmp_path / "odd.safetensors", shapes)
    call = ("merge", "adapters", models.checkpoint, odd, "-o", tmp_path / "x", "--json")
    refused = program(*call).json["errors"][0]
    assert refused["code"] == "unused_keys"
    assert refused["path"] == str(odd)
    assert "lora_unet_x.alpha" in refused["error"]
    (found,) = program(*call, "--partial").json["adapters"]
    assert found["unused"] == ["lora_unet_x.alpha"]
    assert list(found["unused_reasons"]) == found["unused"]


@pytest.mark.parametrize("family", ["sd-2", "sdxl", "sdxl-refiner"])
def test_other_families_are_merged_into(family: str, program: Program, tmp_path: Path) -> None:
    base = tmp_path / "base.safetensors"
    write_safetensors(pipelines.checkpoint(family), base, with_hashes=False)
    width = {"sd-2": 1024, "sdxl": 1280, "sdxl-refiner": 1280}[family]
    number = "" if family == "sd-2" else "2"
    module = f"lora_te{number}_text_model_encoder_layers_0_self_attn_v_proj"
    adapter = cli_models.tensors(
        tmp_path / "a.safetensors", sd1.lora_shapes({module: (width, width)})
    )
    done = program("merge", "adapters", "--json", base, adapter, "-o", tmp_path / "x")
    assert done.code == 0
    (name,) = (n for n in pipelines.FAMILIES[family]() if n.endswith("0.attn.in_proj_weight"))
    (before,), (after,) = _tensors(base, name), _tensors(tmp_path / "x", name)
    assert (before[: 2 * width] == after[: 2 * width]).all(), "queries and keys"
    assert (before[2 * width :] != after[2 * width :]).any(), "values"
    assert done.json["changed_tensors"] == 1


def test_a_folder_of_a_pipeline_is_merged_into_as_a_single_file(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder, target = tmp_path / "pipeline", tmp_path / "x.safetensors"
    assert program("convert", models.checkpoint, "--to", "diffusers", "-o", folder).code == 0
    done = program("merge", "adapters", "--json", folder, models.lora, "-o", target)
    assert done.code == 0
    program("merge", "adapters", models.checkpoint, models.lora, "-o", tmp_path / "y.safetensors")
    (one,) = _tensors(target, UNET_TENSOR)
    (other,) = _tensors(tmp_path / "y.safetensors", UNET_TENSOR)
    assert (one == other).all()


def test_block_weights_are_for_all_adapters_or_for_each(
    program: Program, models: Models, tmp_path: Path
) -> None:
    call = ("merge", "adapters", "--json", models.checkpoint, models.lora, models.unet_lora)
    call = (*call, "-o", tmp_path / "x", "--dry-run")
    both = program(*call, "--block-weights", "NONE").json
    assert both["changed_tensors"] == 0
    assert [a["block_weights"] for a in both["adapters"]] == ["NONE", "NONE"]
    each = program(*call, "--block-weights", "NONE", "--block-weights", "ALL").json
    assert [a["block_weights"] for a in each["adapters"]] == ["NONE", "ALL"]
    assert each["changed_tensors"] > 0


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        (["1,2,3"], "3 block weights in '1,2,3'; a list for SD1 has 26 or 17"),
        (["SOME"], "neither numbers"),
        (["ALL"] * 2, "2 lists of block weights for 1 adapters"),
    ],
)
def test_block_weights_that_are_none_are_a_wrong_call(
    lists: list[str], words: str, program: Program, models: Models, tmp_path: Path
) -> None:
    options = [part for blocks in lists for part in ("--block-weights", blocks)]
    done = program(
        "merge", "adapters", models.checkpoint, models.lora, "-o", tmp_path / "x", *options
    )
    assert done.code == 2
    assert words in done.errors[0]
    assert not (tmp_path / "x").exists()


def test_the_help_says_what_missing_blocks_count(program: Program) -> None:
    shown = " ".join(program("merge", "adapters", "--help").out.split())
    assert "blocks that a shorter list does not name count 0" in shown


def test_the_configuration_beside_an_adapter_of_peft_gives_its_scale(
    program: Program, models: Models, tmp_path: Path
) -> None:
    path = "base_model.model.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    width = cli_models.WIDTHS.channels[0]
    shapes = {f"{path}.lora_A.weight": (4, width), f"{path}.lora_B.weight": (width, 4)}
    shapes[f"{path.replace('attn1', 'attn2')}.lora_A.weight"] = (4, width)
    shapes[f"{path.replace('attn1', 'attn2')}.lora_B.weight"] = (width, 4)
    adapter = cli_models.tensors(tmp_path / "adapter_model.safetensors", shapes)
    call = ("merge", "adapters", "--json", models.checkpoint, adapter, "--overwrite")
    norms = []
    for config in (None, {"r": 4, "lora_alpha": 8}, {"r": 4, "lora_alpha": 8, "use_rslora": True}):
        if config is not None:
            (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        done = program(*call, "-o", tmp_path / "x").json
        norms.append(done["adapters"][0]["change_norm"])
    assert [norm / norms[0] for norm in norms] == pytest.approx([1, 2, 4])
    whole = [tmp_path if each == adapter else each for each in call]
    of_folder = program(*whole, "-o", tmp_path / "x").json
    assert of_folder["adapters"][0]["change_norm"] == norms[-1]
    (tmp_path / "adapter_config.json").write_text("{")
    broken = program(*call, "-o", tmp_path / "x")
    assert broken.code == 1
    assert broken.json["errors"][0]["path"] == str(adapter)


def test_a_folder_of_peft_with_an_adapter_for_each_network_is_merged_as_one(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder, targets = tmp_path / "fox", [tmp_path / f"{name}.safetensors" for name in "ab"]
    assert program("convert", models.lora, "--layout", "peft", "-o", folder).code == 0
    for adapter, target in zip((folder, models.lora), targets, strict=True):
        done = program("merge", "adapters", models.checkpoint, f"{adapter}=0.5,0.25", "-o", target)
        assert done.code == 0, done.err
    one, two = map(load_file, targets)
    assert all((tensor == two[name]).all() for name, tensor in one.items())
    resized = program("resize", "--json", folder, "--rank", "2", "-o", tmp_path / "x")
    (error,) = resized.json["errors"]
    assert error["path"] == str(folder)
    assert "text_encoder" in error["error"]


def test_nothing_is_written_when_an_alpha_is_broken(
    program: Program, models: Models, tmp_path: Path
) -> None:
    module = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    state = sd1.state_dict(sd1.lora_shapes({module: (768, 768)}), fill=sd1.random_fill())
    nan = sd1.stored(state[f"{module}.alpha"].dtype, (), b"\xff\x7f")
    path = tmp_path / "a.safetensors"
    write_safetensors(state.overlay({f"{module}.alpha": nan}), path, with_hashes=False)
    done = program("merge", "adapters", "--json", models.checkpoint, path, "-o", tmp_path / "x")
    (error,) = done.json["errors"]
    assert (done.code, error["code"], error["path"]) == (1, "merge_problem", str(path))
    assert f"{module}.alpha" in error["error"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_checkpoint_is_not_merged_into_itself(
    program: Program, models: Models, tmp_path: Path
) -> None:
    done = program("merge", "adapters", models.checkpoint, models.checkpoint, "-o", tmp_path / "x")
    assert done.code == 1
    assert "is of kind checkpoint, not an adapter" in done.errors[0]


def test_an_adapter_without_tensors_is_refused(
    program: Program, models: Models, tmp_path: Path
) -> None:
    empty = cli_models.tensors(tmp_path / "a.safetensors", {})
    done = program("merge", "adapters", models.checkpoint, empty, "-o", tmp_path / "x")
    assert done.code == 1
    assert done.errors == [f"error: {empty}: holds no tensors"]


@pytest.mark.parametrize("command", ["adapters", "adapters-into-one"])
def test_an_adapter_is_not_given_twice(
    command: str, program: Program, models: Models, tmp_path: Path
) -> None:
    other = tmp_path / "other-name.safetensors"
    os.link(models.lora, other)
    base = (models.checkpoint,) if command == "adapters" else ()
    for again in (models.lora, other):
        call = ("merge", command, *base, models.lora, f"{again}=0.5", "-o", tmp_path / "x")
        done = program(*call)
        assert done.code == 2
        assert done.errors == [f"error: {again}: is given twice"]
        assert "the sum of its weights" in done.err


def test_the_report_tells_each_component(program: Program, models: Models, tmp_path: Path) -> None:
    call = ("merge", "adapters", "--json", models.checkpoint, models.lora)
    done = program(*call, "-o", tmp_path / "x").json["adapters"][0]
    parts = {part["component"]: part for part in done["by_component"]}
    assert {name: part["applied"] for name, part in parts.items()} == done["components"]
    total = sum(part["change_norm"] ** 2 for part in parts.values()) ** 0.5
    assert total == pytest.approx(done["change_norm"])
    assert done["largest_change"] in [part["largest_change"] for part in parts.values()]
    planned = program(*call, "--dry-run", "-o", tmp_path / "y").json["adapters"][0]
    assert {part["change_norm"] for part in planned["by_component"]} == {None}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_told(
    program: Program, models: Models, tmp_path: Path
) -> None:
    call = ("merge", "adapters", models.checkpoint, models.lora, "-o", tmp_path / "x")
    done = program(*call, "--device", "cuda")
    assert (done.code, "no cuda device" in done.err) == (3, True)
    assert program(*call, "--device", "auto").code == 0


def _as_gguf(source: Path, target: Path) -> Path:
    """A checkpoint with one tensor in blocks of 32 bytes that share a scale (Q8_0)."""
    held = {}
    for name, tensor in load_file(source).items():
        if not tensor.is_floating_point():
            continue
        kind, data = "F16", tensor.half().contiguous().numpy().tobytes()
        if name == UNET_TENSOR:
            kind = "Q8_0"
            steps = torch.arange(tensor.numel(), dtype=torch.int8).reshape(-1, 32)
            scale = torch.tensor([0.01]).half().numpy().tobytes()
            data = b"".join(scale + row.numpy().tobytes() for row in steps)
        held[name] = (tuple(reversed(tensor.shape)), kind, data)
    target.write_bytes(gguf(held))
    return target


def test_quantised_blocks_are_merged_as_the_numbers_they_stand_for(
    program: Program, models: Models, tmp_path: Path
) -> None:
    base = _as_gguf(models.checkpoint, tmp_path / "base.gguf")
    before, target = tmp_path / "before.safetensors", tmp_path / "x.safetensors"
    assert program("convert", base, "-o", before).code == 0
    done = program("merge", "adapters", "--json", base, models.unet_lora, "-o", target)
    assert (done.code, done.json["warnings"]) == (
        0,
        ["1 quantised tensors are written in fp32; --dtype fp16 halves the file"],
    )
    again = tmp_path / "y.safetensors"
    program("merge", "adapters", before, models.unet_lora, "-o", again)
    (one,), (other,) = _tensors(target, UNET_TENSOR), _tensors(again, UNET_TENSOR)
    assert (one == other).all()
    narrow = program(
        "merge", "adapters", "--json", base, models.unet_lora, "--dtype", "fp16",
        "-o", tmp_path / "z.safetensors",
    )  # fmt: skip
    assert narrow.json["warnings"] == []


def _flow_pipeline(folder: Path, family: str) -> None:
    """A pipeline's folder as diffusers writes it, and what repositories have beside that."""
    network = mmdit.flux(guided=True) if family == "flux" else mmdit.sd3()
    network.save_pretrained(folder / "transformer", max_shard_size="300kB")
    mmdit.t5().save_pretrained(folder / "text_encoder_2")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    mmdit.vae(1.0, 0.1).save_pretrained(folder / "vae")
    (folder / "image_encoder").mkdir()
    (folder / "image_encoder" / "pytorch_model.bin").write_text("no model")
    (folder / "whole.safetensors").write_text("another copy")
    index = {
        "_class_name": "FluxPipeline",
        "transformer": ["diffusers", "X"],
        "vae": ["diffusers", "AutoencoderKL"],
        "image_encoder": ["transformers", "CLIPVisionModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_a_pipeline_with_a_transformer_becomes_such_a_folder_again(
    family: str, program: Program, tmp_path: Path
) -> None:
    import diffusers

    base, target = tmp_path / "base", tmp_path / "merged"
    _flow_pipeline(base, family)
    layer = "transformer_blocks.0.attn.to_q"
    text = "encoder.block.0.layer.0.SelfAttention.q"
    shapes = {
        f"transformer.{layer}.lora_A.weight": (2, 64),
        f"transformer.{layer}.lora_B.weight": (64, 2),
    }
    if family == "flux":
        name = f"lora_te3_{text.replace('.', '_')}"
        shapes |= {f"{name}.lora_up.weight": (64, 2), f"{name}.lora_down.weight": (2, 64)}
    adapter = cli_models.tensors(tmp_path / "a.safetensors", shapes)
    call = ("merge", "adapters", "--json", base, f"{adapter}=0.5", "-o")
    misnamed = program(*call, tmp_path / "x.safetensors")
    assert misnamed.code == 2
    assert "becomes a folder" in misnamed.json["errors"][0]["error"]
    done = program(*call, target)
    found = done.json
    assert (done.code, found["hashes"]) == (0, None), done.err
    assert (found["changed_tensors"], isinstance(found["asset"], int)) == (
        2 if family == "flux" else 1,
        True,
    )
    assert {path.relative_to(target).as_posix() for path in target.glob("*/*")} == {
        *("transformer/config.json", "transformer/diffusion_pytorch_model.safetensors"),
        *("text_encoder_2/config.json", "text_encoder_2/model.safetensors"),
        *("vae/config.json", "vae/diffusion_pytorch_model.safetensors"),
        *("tokenizer/vocab.json", "image_encoder/pytorch_model.bin"),
    }
    network = {"flux": "FluxTransformer2DModel", "sd3": "SD3Transformer2DModel"}[family]
    before, after = (
        getattr(diffusers, network).from_pretrained(folder / "transformer").state_dict()
        for folder in (base, target)
    )
    change = load_file(adapter)
    up, down = (change[f"transformer.{layer}.lora_{part}.weight"].float() for part in "BA")
    before[f"{layer}.weight"] += 0.5 * up @ down
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name], tensor)
    assert program(*call, target).json["errors"][0]["code"] == "target_exists"
    assert program(*call, target, "--overwrite").code == 0
    (target / "mine.txt").touch()
    assert program(*call, target, "--overwrite").json["errors"][0]["code"] == "target_exists"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.filterwarnings("ignore")
def test_pipelines_with_a_transformer_are_merged_into_such_a_folder_and_replayed(
    program: Program, tmp_path: Path
) -> None:
    one, two, target, again = (tmp_path / name for name in ("one", "two", "merged", "again"))
    _flow_pipeline(one, "sd3")
    shutil.copytree(one, two)
    layer, weights = "transformer_blocks.0.attn.to_q.weight", "diffusion_pytorch_model.safetensors"
    (part,) = (f for f in (two / "transformer").glob("*.safetensors") if layer in load_file(f))
    tensors = load_file(part)
    save_file({**tensors, layer: tensors[layer] + 1}, part)
    save_file(
        {name: tensor * 3 for name, tensor in load_file(two / "vae" / weights).items()},
        two / "vae" / weights,
    )
    call = ("merge", "checkpoints", "--json", one, two, "--method", "weighted-sum")
    chosen = ("--alpha", "0.25", "--components", "vae=B", "-o")
    named = program(*call, *chosen, tmp_path / "x.safetensors")
    assert "becomes a folder" in named.json["errors"][0]["error"]
    done = program(*call, *chosen, target)
    assert (done.code, done.json["hashes"]) == (0, None), done.err
    assert done.json["merged_tensors"] - done.json["equal_tensors"] == 1
    merged = load_file(target / "transformer" / weights)
    torch.testing.assert_close(merged[layer], tensors[layer] + 0.25)
    ours, theirs = (load_file(folder / "vae" / weights) for folder in (target, two))
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    replayed = program("merge", "replay", "--json", target, "--search", tmp_path, "-o", again)
    assert replayed.code == 0, replayed.err
    files = sorted(path.relative_to(target) for path in target.rglob("*") if path.is_file())
    assert all((target / file).read_bytes() == (again / file).read_bytes() for file in files)
