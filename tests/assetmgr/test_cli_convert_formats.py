"""`convert` from and to other containers: pipelines' folders and .ckpt files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_models
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from assetmgr.operations.convert import plan as convert_plan
from converters.compute import value
from converters.containers import open_model
from converters.writers import atomic

if TYPE_CHECKING:
    from conftest import Models, Program

POSITIONS = "cond_stage_model.transformer.text_model.embeddings.position_ids"


@pytest.fixture
def pipeline(program: Program, models: Models, tmp_path: Path) -> Path:
    """The checkpoint as a pipeline's folder."""
    folder = tmp_path / "pipeline"
    done = program("convert", models.checkpoint, "--to", "diffusers", "-o", folder)
    assert done.code == 0, done.err
    return folder


def _contents(path: Path) -> dict[str, bytes]:
    return {name: bytes(t.read()) for name, t in open_model(path).state_dict.items()}


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "np") as file:
        return dict(file.metadata())


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("x.ckpt", "torch-zip"),
        ("x.PT", "torch-zip"),
        ("x.gguf", "gguf"),
        ("x.safetensors", "safetensors"),
        ("x.other", "safetensors"),
    ],
)
def test_a_target_holds_what_its_ending_says(
    program: Program, models: Models, tmp_path: Path, name: str, container: str
) -> None:
    call = ("convert", models.checkpoint, "-o", tmp_path / name, "--json")
    assert program(*call).json[0]["container"] == container
    asked = program(*call, "--to", "safetensors", "--overwrite").json[0]["container"]
    assert asked == "safetensors", "what is asked for counts"


def test_a_checkpoint_becomes_a_folder_that_is_inspected_as_one_model(
    program: Program, models: Models, pipeline: Path
) -> None:
    (found,) = program("inspect", "--json", pipeline).json
    (single,) = program("inspect", "--json", models.checkpoint).json
    for field in ("kind", "base", "variant", "prediction"):
        assert found[field] == single[field]
    assert (found["container"], found["layout"]) == ("diffusers", "diffusers")
    assert {part["name"] for part in found["components"]} == {"unet", "vae", "text_encoder"}
    assert sorted(path.name for path in pipeline.iterdir()) == [
        "model_index.json",
        "scheduler",
        "text_encoder",
        "tokenizer",
        "unet",
        "vae",
    ]


def test_a_folder_becomes_the_checkpoint_that_it_was_made_of(
    program: Program, models: Models, pipeline: Path, tmp_path: Path
) -> None:
    target = tmp_path / "again.safetensors"
    (item,) = program("convert", "--json", "--verify", pipeline, "-o", target).json
    assert (item["source"], item["container"], item["verified"]) == (
        str(pipeline),
        "safetensors",
        True,
    )
    before = _contents(models.checkpoint)
    before.pop(POSITIONS, None)
    assert _contents(target) == before
    metadata = _metadata(target)
    assert metadata["author"] == "somebody"
    (parent,) = json.loads(metadata["assetmgr.derivation"])["parents"]
    assert parent["name"] == "pipeline"


def test_what_has_no_place_in_a_pipeline_is_reported(
    program: Program, models: Models, tmp_path: Path
) -> None:
    call = ("convert", "--json", models.checkpoint, "--to", "diffusers", "-o", tmp_path / "p")
    (item,) = program(*call, "--verify").json
    assert item["dropped"] == [POSITIONS]
    assert (item["container"], item["hashes"]) == ("diffusers", None)
    weights = sum(path.stat().st_size for path in (tmp_path / "p").rglob("*.safetensors"))
    assert item["bytes"] == weights


def test_a_pipeline_is_registered_with_what_it_was_made_of(
    program: Program, models: Models, tmp_path: Path
) -> None:
    call = ("convert", "--json", models.checkpoint, "--to", "diffusers", "-o", tmp_path / "p")
    (item,) = program(*call).json
    found = program("show", f"#{item['asset']}", "--json").json
    assert [file["path"] for file in found["files"]] == [str(tmp_path / "p")]
    assert [edge["operation"] for edge in found["derived_from"]] == ["convert"]


def test_precision_changes_on_the_way_into_a_folder(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    program("convert", models.checkpoint, "--to", "diffusers", "-o", folder, "--dtype", "bf16")
    (found,) = program("inspect", "--json", folder).json
    assert set(found["dtypes"]) == {"BF16"}


def test_only_checkpoints_become_pipelines(
    program: Program, models: Models, tmp_path: Path
) -> None:
    done = program("convert", models.lora, "--to", "diffusers", "-o", tmp_path / "p")
    assert (done.code, len(done.errors)) == (1, 1)
    assert "is no checkpoint but lora" in done.err
    assert not (tmp_path / "p").exists()


def test_a_folder_is_replaced_only_when_told(
    program: Program, models: Models, pipeline: Path
) -> None:
    call = ("convert", models.checkpoint, "--to", "diffusers", "-o", pipeline)
    (pipeline / "unet" / "stale.txt").touch()
    done = program(*call)
    assert (done.code, "already exists" in done.err or "is a folder" in done.err) == (1, True)
    assert (pipeline / "unet" / "stale.txt").exists()
    assert program(*call, "--overwrite").code == 0
    assert not (pipeline / "unet" / "stale.txt").exists()


def test_a_folder_that_holds_other_things_is_never_replaced(
    program: Program, models: Models, pipeline: Path
) -> None:
    (pipeline / "mine.safetensors").touch()
    call = ("convert", models.checkpoint, "--to", "diffusers", "-o", pipeline)
    done = program(*call, "--overwrite")
    assert done.code == 1
    assert "holds other things: mine.safetensors" in done.err
    assert (pipeline / "mine.safetensors").exists()
    assert (pipeline / "model_index.json").exists()


def test_a_folder_of_models_and_pipelines_is_converted_model_by_model(
    program: Program, models: Models, pipeline: Path, tmp_path: Path
) -> None:
    os.link(models.pickled, tmp_path / "old.ckpt")
    out = tmp_path / "out"
    items = program("convert", "--json", tmp_path, "--output-dir", out, "--recursive").json
    assert [Path(item["source"]).name for item in items] == ["old.ckpt", "pipeline"]
    assert sorted(path.name for path in out.iterdir()) == [
        "old.safetensors",
        "pipeline.safetensors",
    ]


def test_a_ckpt_is_what_torch_and_we_read(program: Program, models: Models, tmp_path: Path) -> None:
    target = tmp_path / "old-tool.ckpt"
    call = ("convert", "--json", models.checkpoint, "--to", "ckpt", "-o", target, "--verify")
    (item,) = program(*call).json
    assert (item["container"], item["verified"]) == ("torch-zip", True)
    assert item["hashes"]["autov3"] is None
    assert _contents(target) == _contents(models.checkpoint)
    loaded = torch.load(target, weights_only=True)["state_dict"]
    assert loaded.keys() == _contents(models.checkpoint).keys()
    (hashed,) = program("hash", "--json", target).json
    assert item["hashes"]["sha256"] == hashed["sha256"]
    assert program("show", target).code == 0


def test_a_model_in_shards_is_named_without_its_index(
    program: Program, models: Models, tmp_path: Path
) -> None:
    state = open_model(models.checkpoint).state_dict
    names = list(state)
    from converters.writers.safetensors import write_safetensors

    places = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        write_safetensors(state.select(set(part).__contains__), tmp_path / shard)
        places |= dict.fromkeys(part, shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    (item,) = program("convert", "--json", index).json
    assert item["target"] == str(tmp_path / "model.safetensors")
    assert _contents(Path(item["target"])) == _contents(models.checkpoint)
    part = tmp_path / "model-00001-of-00002.safetensors"
    for call in (("convert", index), ("merge", "adapters", index, models.lora)):
        done = program(*call, "-o", part, "--overwrite")
        assert (done.code, "also a source" in done.errors[0]) == (2, True)


@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_what_a_model_predicts_can_be_said(
    prediction: str, program: Program, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    call = ("convert", models.checkpoint, "--to", "diffusers", "-o", folder)
    assert program(*call, "--prediction", prediction).code == 0
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert config["prediction_type"] == {"v": "v_prediction"}.get(prediction, prediction)
    (found,) = program("inspect", "--json", folder).json
    assert found["prediction"] == prediction


def test_a_batch_that_was_interrupted_goes_on_where_it_stopped(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.ckpt", "b.ckpt"):
        os.link(models.pickled, folder / name)
    call = ("convert", "--json", folder, "--output-dir", out, "--ema", "drop")
    program(*call)
    (out / "b.safetensors").unlink()
    first, second = program(*call).json
    assert (first["done_before"], first["seconds"], second["done_before"]) == (True, None, False)
    assert (out / "b.safetensors").exists()
    assert "done before" in program(*(word for word in call if word != "--json")).out


@pytest.mark.parametrize("change", ["other precision", "older than its source", "foreign"])
def test_a_target_of_another_conversion_is_not_taken_for_done(
    change: str, program: Program, models: Models, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    source, target = folder / "a.ckpt", out / "a.safetensors"
    source.write_bytes(models.pickled.read_bytes())
    call: tuple[Any, ...] = ("convert", folder, "--output-dir", out)
    assert program(*call).code == 0
    if change == "other precision":
        call = (*call, "--dtype", "bf16")
    elif change == "foreign":
        target.write_bytes(b"theirs")
    else:
        os.utime(target, (1, 1))
    done = program(*call)
    assert (done.code, len(done.errors)) == (1, 1)
    assert "already exists" in done.err


def test_repairs_are_named_in_the_report(program: Program, models: Models, tmp_path: Path) -> None:
    broken, target = tmp_path / "broken.ckpt", tmp_path / "mended.safetensors"
    with safe_open(models.checkpoint, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors[POSITIONS] = tensors[POSITIONS].half()
    torch.save({"state_dict": tensors}, broken)
    (item,) = program("convert", "--json", broken, "-o", target).json
    assert any(f"repaired {POSITIONS}" in warning for warning in item["warnings"])
    assert _contents(target) == _contents(models.checkpoint)


def test_the_hashes_of_the_original_stay_in_the_target(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "half.safetensors"
    program("convert", models.checkpoint, "-o", target, "--dtype", "bf16")
    (parent,) = json.loads(_metadata(target)["assetmgr.derivation"])["parents"]
    (known,) = program("hash", "--json", models.checkpoint).json
    for name in ("sha256", "blake3", "autov3"):
        assert parent[name] == known[name]


@pytest.mark.parametrize("scanned", [True, False])
def test_the_planned_size_is_that_of_the_target(
    scanned: bool, program: Program, models: Models, tmp_path: Path
) -> None:
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    os.link(models.checkpoint, source)
    if scanned:
        program("scan", tmp_path)
    call = ("convert", "--json", source, "-o", target, "--dtype", "bf16")
    (planned,) = program(*call, "--dry-run").json
    (done,) = program(*call).json
    assert planned["bytes"] == done["bytes"] == target.stat().st_size


def test_a_plan_says_when_the_disk_would_be_full(
    program: Program, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.ckpt", "b.ckpt"):
        os.link(models.pickled, folder / name)
    room = 1.5 * models.pickled.stat().st_size
    monkeypatch.setattr(convert_plan, "free_bytes", lambda _: (1, int(room)))
    first, second = program("convert", "--json", "--dry-run", folder).json
    assert not any("needs" in warning for warning in first["warnings"])
    assert any("would be left" in warning for warning in second["warnings"])


def test_a_full_disk_stops_one_conversion_before_it_begins(
    program: Program, models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "free_bytes", lambda _: (1, 1000))
    target = tmp_path / "x.safetensors"
    done = program("convert", "--json", models.checkpoint, "-o", target)
    assert (done.code, done.json[0]["code"]) == (1, "disk_full")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["embedding", "hypernetwork"])
def test_small_kinds_become_pt_files_where_a1111_looks_for_them(
    name: str, program: Program, tmp_path: Path
) -> None:
    shapes = {"emb_params": (2, 768)}
    if name == "hypernetwork":
        shapes = {
            f"768.{side}.linear.{index}.weight": shape
            for side in (0, 1)
            for index, shape in ((0, (8, 768)), (1, (768, 8)))
        }
    source = cli_models.tensors(tmp_path / "small.safetensors", shapes)
    (item,) = program("convert", "--json", "--to", "ckpt", "--verify", source).json
    assert item["target"] == str(tmp_path / "small.pt")
    (found,) = program("inspect", "--json", item["target"]).json
    assert (found["kind"], found["safety"]["verdict"]) == (name, "safe")
    assert program("convert", "--json", "--to", "ckpt", tmp_path / "small.pt").code == 2
    assert program("convert", "--to", "ckpt", tmp_path, "--overwrite").code == 0


def test_a_vae_is_renamed_for_another_program(
    program: Program, models: Models, tmp_path: Path
) -> None:
    vae, target = tmp_path / "vae.safetensors", tmp_path / "diffusers.safetensors"
    program("extract", "vae", models.checkpoint, "-o", vae)
    call = ("convert", vae, "--layout", "diffusers", "-o", target, "--verify")
    assert program(*call).code == 0
    (found,) = program("inspect", "--json", target).json
    assert (found["kind"], found["layout"]) == ("vae", "diffusers")
    done = program("convert", models.checkpoint, "--layout", "diffusers", "-o", tmp_path / "x")
    assert (done.code, "hint: use --to diffusers" in done.err) == (1, True)


def test_a_lora_becomes_the_folder_of_peft_and_its_scales_come_back(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder, back = tmp_path / "fox", tmp_path / "back.safetensors"
    call = ("convert", "--layout", "peft", "-o", folder, "--verify", "--json")
    (done,) = program(*call, models.lora, "--components", "unet").json
    assert (done["target"], done["container"]) == (str(folder), "safetensors")
    assert (done["verified"], len(done["dropped"]) > 0) == (True, True)
    assert isinstance(done["asset"], int)
    assert {p.name for p in folder.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    weights = folder / "adapter_model.safetensors"
    assert program("convert", weights, "--layout", "kohya", "-o", back).code == 0
    source, again = _contents(models.lora), _contents(back)
    assert again.keys() == {name for name in source if name.startswith("lora_unet_")}
    assert all(again[n] == source[n] for n in again if not n.endswith(".alpha"))
    given = open_model(models.lora).state_dict
    for name, tensor in open_model(back).state_dict.items():
        if name.endswith(".alpha"):
            assert value(tensor).item() == pytest.approx(value(given[name]).item(), rel=1e-6)


def test_a_lora_of_several_networks_becomes_a_folder_of_folders_for_peft(
    program: Program, models: Models, tmp_path: Path
) -> None:
    folder = tmp_path / "fox"
    call = ("convert", models.lora, "--layout", "peft", "-o", folder, "--verify", "--json")
    (done,) = program(*call).json
    assert (done["verified"], done["asset"]) == (True, None)
    assert "text_model" in done["warnings"][0]
    files = ("adapter_config.json", "adapter_model.safetensors")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*")) == [
        f"{network}/{name}" for network in ("text_encoder", "unet") for name in files
    ]
    parts = [folder / network / files[1] for network in ("unet", "text_encoder")]
    for part in parts:
        (edge,) = program("show", part, "--json").json["derived_from"]
        assert edge["operation"] == "convert"
    merges = [
        program("merge", "adapters", models.checkpoint, *given, "--json", "-o", tmp_path / name)
        for name, given in (("whole", [models.lora]), ("parts", parts))
    ]
    changed = [merge.json["changed_tensors"] for merge in merges]
    assert changed[0] == changed[1] > 0
    back = tmp_path / "fox.safetensors"  # beside the folder, with its name
    assert program("convert", folder, "--layout", "kohya").code == 0
    source, again = _contents(models.lora), _contents(back)
    assert again.keys() == source.keys()
    assert all(again[n] == source[n] for n in again if not n.endswith(".alpha"))
    parents = program("lineage", "show", back, "--json").json["parents"]
    assert [parent["name"] for parent in parents] == ["adapter_model.safetensors"] * 2
    own = program("convert", folder, "--layout", "peft", "-o", folder, "--overwrite")
    assert "its own target" in own.errors[0]


def test_every_adapter_of_peft_in_a_folder_is_converted_by_the_name_of_its_own(
    program: Program, models: Models, tmp_path: Path
) -> None:
    inner = tmp_path / "trained" / "fox"
    call = ("convert", models.lora, "--layout", "peft", "-o")
    assert program(*call, inner).code == 0
    assert program(*call, tmp_path / "trained" / "owl", "--components", "unet").code == 0
    done = program("convert", "--recursive", tmp_path / "trained", "--layout", "kohya", "--json")
    assert [Path(each["target"]).name for each in done.json] == [
        "fox.safetensors",
        "owl.safetensors",
    ]
    (inner / "unet" / "adapter_config.json").write_text("{")
    broken = program("convert", inner, "--layout", "comfy", "-o", tmp_path / "x.safetensors")
    assert (broken.code, "adapter_config.json is not JSON" in broken.errors[0]) == (1, True)


def test_the_folder_of_peft_takes_no_other_container(
    program: Program, models: Models, tmp_path: Path
) -> None:
    call = ("convert", models.unet_lora, "--layout", "peft", "-o", tmp_path / "x")
    assert program(*call, "--to", "ckpt").code == 2
    assert program(*call).code == 0
    again = program(*call)
    assert (again.code, "is a folder" in again.errors[0]) == (1, True)
    assert program(*call, "--overwrite").code == 0
    weights = tmp_path / "x" / "adapter_model.safetensors"
    own = program("convert", weights, *call[2:], "--overwrite")
    assert "its own target" in own.errors[0]


def test_the_configuration_beside_an_adapter_of_peft_becomes_its_alphas(
    program: Program, tmp_path: Path
) -> None:
    module = "base_model.model.mid_block.attentions.0.transformer_blocks.0.attn2.to_k"
    shapes = {f"{module}.lora_A.weight": (4, 768), f"{module}.lora_B.weight": (1280, 4)}
    source = cli_models.tensors(tmp_path / "adapter_model.safetensors", shapes)
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    target = tmp_path / "x.safetensors"
    done = program("convert", source, "--layout", "kohya", "-o", target)
    assert done.code == 0, done.err
    (alpha,) = (t for n, t in open_model(target).state_dict.items() if n.endswith(".alpha"))
    assert value(alpha).item() == 8


def test_a_checkpoint_goes_to_gguf_and_back_byte_for_byte(
    program: Program, models: Models, tmp_path: Path
) -> None:
    there, back = tmp_path / "x.gguf", tmp_path / "x.safetensors"
    call = ("convert", "--json", models.checkpoint, "--to", "gguf", "-o", there)
    (planned,) = program(*call, "--dry-run").json
    (item,) = program(*call, "--verify").json
    assert (item["container"], item["verified"]) == ("gguf", True)
    assert planned["bytes"] == item["bytes"] == there.stat().st_size
    assert item["hashes"]["autov3"] is None
    (found,) = program("inspect", "--json", there).json
    (before,) = program("inspect", "--json", models.checkpoint).json
    for field in ("kind", "base", "tensors", "dtypes", "components"):
        assert found[field] == before[field]
    assert program("convert", there, "-o", back).code == 0
    assert _contents(back) == _contents(models.checkpoint)


def test_quantised_precisions_are_for_gguf_alone(
    program: Program, models: Models, tmp_path: Path
) -> None:
    target = tmp_path / "q.gguf"
    call = ("convert", "--json", models.checkpoint, "--dtype", "q8_0")
    for other in (("--to", "safetensors", "-o", target), ("-o", tmp_path / "q.safetensors")):
        refused = program(*call, *other)
        assert (refused.code, refused.json["errors"][0]["code"]) == (2, "bad_value")
        assert "needs --to gguf" in refused.err
    (item,) = program(*call, "-o", target, "--verify").json
    assert item["verified"]
    assert item["bytes"] < models.checkpoint.stat().st_size
    assert "Q8_0" in program("inspect", "--json", target).json[0]["metadata"]["gguf.types"]


def test_adapters_do_not_become_gguf(program: Program, models: Models, tmp_path: Path) -> None:
    done = program("convert", models.lora, "--to", "gguf", "-o", tmp_path / "x.gguf")
    assert (done.code, len(done.errors)) == (1, 1)
    assert "which no program reads from GGUF" in done.err
    assert not any(tmp_path.glob("*.gguf*"))


_ONE = torch.tensor(1.0)
_CODES = torch.tensor([[1.0, -2.0], [448.0, 0.5]]).to(torch.float8_e4m3fn)
_OLD_SCALE = {
    "a.scale_weight": torch.tensor(0.25),
    "scaled_fp8": _CODES[0].clone(),
    "a.scale_input": _ONE,
}
_NEW_SCALE = {
    "a.weight_scale": torch.tensor(0.25),
    "a.input_scale": _ONE,
    "a.comfy_quant": torch.frombuffer(bytearray(b'{"format":"float8_e4m3fn"}'), dtype=torch.uint8),
}


@pytest.mark.parametrize(
    ("to", "scales"),
    [
        (("--dtype", "fp32"), _OLD_SCALE),
        (("--to", "gguf"), _OLD_SCALE),
        (("--dtype", "bf16"), _NEW_SCALE),
        (("--to", "gguf"), _NEW_SCALE),
        (("--dtype", "fp32"), {"a.scale_weight": torch.tensor([0.25, 0.25])}),
        (("--dtype", "fp32"), {"a.weight_scale": torch.tensor([[0.25], [0.25]])}),
    ],
)
def test_scales_of_fp8_are_applied_where_the_precision_changes(
    program: Program, tmp_path: Path, to: tuple[str, str], scales: dict[str, torch.Tensor]
) -> None:
    source, target = tmp_path / "scaled.safetensors", tmp_path / "plain"
    save_file({"a.weight": _CODES, **scales}, source, {"_quantization_metadata": "{}"})
    (item,) = program("convert", "--json", "--verify", source, *to, "-o", target).json
    assert item["verified"]
    assert sorted(item["dropped"]) == sorted(scales)
    made = open_model(target).state_dict
    assert list(made) == ["a.weight"]
    assert "_quantization_metadata" not in made.metadata
    assert value(made["a.weight"]).float().tolist() == [[0.25, -0.5], [112.0, 0.125]]


@pytest.mark.parametrize(
    "scales",
    [
        {"a.weight.absmax": _ONE, "a.weight": torch.zeros(2, 1, dtype=torch.uint8)},
        {"a.weight_scale": _ONE, "a.weight": torch.zeros(2, 2, dtype=torch.int8)},
        {"a.weight_scale": torch.ones(2, 2)},
        {"a.weight_scale": torch.ones(1, 2)},  # of columns
        {"a.scale_weight": torch.ones(3)},
    ],
)
def test_codes_that_are_not_undone_are_not_taken_for_weights(
    program: Program, tmp_path: Path, scales: dict[str, torch.Tensor]
) -> None:
    source, target = tmp_path / "codes.safetensors", tmp_path / "plain"
    save_file({"a.weight": _CODES, **scales}, source)
    for to in (("--dtype", "fp16"), ("--to", "gguf")):
        done = program("convert", source, *to, "-o", target)
        assert (done.code, target.exists()) == (1, False)
        assert "quantised" in done.errors[0] or "does not fit its weight" in done.errors[0]
    assert program("convert", source, "-o", tmp_path / "kept.safetensors").code == 0
