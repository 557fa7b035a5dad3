"""`lineage explain` and `lineage show`: what is found out, told, kept, and refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_models
import numpy as np
import pytest
from helpers import sd1
from helpers.sd1 import stored
from safetensors.numpy import load_file, save_file

from converters.dtypes import DType
from converters.statedict import LazyTensor, StateDict
from converters.writers.safetensors import write_safetensors

if TYPE_CHECKING:
    from conftest import Done, Program, Scan

FIELDS = {
    *("checkpoint", "asset", "base", "certainty", "components", "copies", "compared", "left_out"),
    *("recipe", "recipe_problem", "commands", "recorded", "bytes_read", "seconds", "errors"),
}
BLOCKS = ",".join(str(number / 25) for number in range(26))


def _state(seed: int) -> StateDict:
    """A checkpoint as training from a common one makes it; all have one VAE."""
    base = sd1.state_dict(sd1.checkpoint_shapes(cli_models.WIDTHS), fill=sd1.random_fill())

    def change(name: str, tensor: LazyTensor) -> LazyTensor:
        if name.startswith(sd1.VAE) or tensor.dtype is not DType.F16:
            return tensor
        random = np.random.default_rng([seed, *name.encode()])
        values = np.frombuffer(tensor.read(), np.float16).astype(np.float32)
        values += random.standard_normal(tensor.numel, np.float32) * np.float32(0.004)
        return stored(DType.F16, tensor.shape, values.astype(np.float16).tobytes(), name)

    return base.map(change)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three checkpoints of one family and an adapter."""
    made = tmp_path_factory.mktemp("collection")
    for seed, name in enumerate("abc", 1):
        write_safetensors(_state(seed), made / f"{name}.safetensors", with_hashes=False)
    modules = {**sd1.kohya_modules(cli_models.WIDTHS), **sd1.kohya_text_modules(cli_models.WIDTHS)}
    alpha = stored(DType.F16, (), np.float16(4).tobytes(), "alpha")
    style = sd1.state_dict(sd1.lora_shapes(modules), fill=sd1.random_fill()).map(
        lambda name, tensor: alpha if name.endswith(".alpha") else tensor
    )
    write_safetensors(style, made / "style.safetensors", with_hashes=False)
    return made


def explain(program: Program, *arguments: object) -> Done:
    return program("lineage", "explain", "--json", *arguments)


def _merged(program: Program, target: Path, *arguments: object) -> Path:
    done = program("merge", *arguments, "-o", target)
    assert done.code == 0, done.err
    return target


def _part(document: Any, name: str) -> Any:
    return next(part for part in document["components"] if part["name"] == name)


def _recipe(part: Any) -> dict[str, float]:
    return {each["name"]: each["weight"] for each in part["ingredients"]}


@pytest.mark.parametrize(
    ("options", "models"),
    [
        (("--method", "weighted-sum", "--alpha", "0.3", "--beta", "0.1"), "abc"),
        (("--method", "add-difference", "--alpha", "0.8"), "abc"),
        (("--method", "average"), "abc"),
        (
            ("--method", "weighted-sum", "--alpha", "text_encoder=0", "--block-weights", BLOCKS),
            "ab",
        ),
        (("--method", "weighted-sum", "--alpha", "0.5", "--components", "text_encoder=C"), "abc"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_the_recipe_that_is_found_makes_the_same_tensors_again(
    options: tuple[str, ...],
    models: str,
    program: Program,
    scan: Scan,
    folder: Path,
    tmp_path: Path,
) -> None:
    scan(folder)
    files = [folder / f"{name}.safetensors" for name in models]
    blend = _merged(program, tmp_path / "blend.safetensors", "checkpoints", *files, *options)
    done = explain(program, blend, "--recipe", tmp_path / "found.toml")
    assert done.code == 0, done.err
    assert set(done.json) == FIELDS
    assert done.json["certainty"] == "exact"
    assert done.json["recipe"] == (tmp_path / "found.toml").read_text("utf-8")
    again = tmp_path / "again.safetensors"
    replayed = program("merge", "replay", tmp_path / "found.toml", "-o", again)
    assert replayed.code == 0, replayed.err
    assert program("diff", "--json", blend, again).json["equal"]


def test_an_adapter_is_found_with_both_of_its_weights(
    program: Program, scan: Scan, folder: Path, tmp_path: Path
) -> None:
    scan(folder)
    style = folder / "style.safetensors"
    target = tmp_path / "styled.safetensors"
    _merged(program, target, "adapters", folder / "a.safetensors", f"{style}=0.8,0.4")
    done = explain(program, target)
    assert done.code == 0, done.err
    assert _recipe(_part(done.json, "unet")) == pytest.approx({"a": 1, "style": 0.8}, abs=1e-3)
    text = _recipe(_part(done.json, "text_encoder"))
    assert text == pytest.approx({"a": 1, "style": 0.4}, abs=1e-3)
    assert done.json["recipe"] is None
    assert "adapters" in done.json["recipe_problem"]
    (command,) = done.json["commands"]
    assert f"{style}=0.8,0.4" in command
    assert done.json["compared"] == {"models": 3, "adapters": 1}


def test_what_is_found_is_kept_on_request_alone_and_marked(
    program: Program, scan: Scan, folder: Path, tmp_path: Path
) -> None:
    scan(folder)
    a, b, _ = (folder / f"{name}.safetensors" for name in "abc")
    options = ("checkpoints", a, b, "--method", "weighted-sum", "--alpha", "0.35")
    blend = _merged(program, tmp_path / "blend.safetensors", *options)
    assert not explain(program, blend).json["recorded"]
    shown = program("lineage", "show", "--json", blend).json
    assert [each["operation"] for each in shown["parents"]] == ["merge checkpoints"] * 2
    assert explain(program, blend, "--record").json["recorded"]
    shown = program("lineage", "show", "--json", blend).json
    inferred = [each for each in shown["parents"] if each["operation"] == "inferred merge"]
    assert [each["name"] for each in inferred] == ["a.safetensors", "b.safetensors"]
    assert inferred[1]["parameters"]["inferred"] is True
    assert inferred[1]["parameters"]["weights"]["unet"] == 0.35
    words = program("lineage", "show", blend).out
    assert "a.safetensors #" in words
    assert "by inferred merge" in words


def test_files_outside_of_the_library_can_be_named(
    program: Program, folder: Path, tmp_path: Path
) -> None:
    a, b, _ = (folder / f"{name}.safetensors" for name in "abc")
    blend = tmp_path / "blend.safetensors"
    _merged(program, blend, "checkpoints", a, b, "--method", "average")
    program("forget", a, b)
    done = explain(program, blend, "--among", "nothing-is-called-so", "--with", folder)
    assert done.code == 0, done.err
    assert _recipe(_part(done.json, "unet")) == {"a": 0.5, "b": 0.5}
    assert "hashes" in done.json["recipe_problem"]
    made = tmp_path / "found.toml"
    explain(program, blend, "--with", folder, "--recipe", made)
    assert tomllib.loads(made.read_text("utf-8"))["method"] == "weighted-sum"


def test_an_adapter_outside_of_the_library_can_be_named(
    program: Program, folder: Path, tmp_path: Path
) -> None:
    style, target = folder / "style.safetensors", tmp_path / "styled.safetensors"
    _merged(program, target, "adapters", folder / "a.safetensors", f"{style}=0.5")
    program("forget", style)
    done = explain(program, target, "--with", style, "--with", folder / "a.safetensors")
    assert _recipe(_part(done.json, "unet")) == pytest.approx({"a": 1, "style": 0.5}, abs=1e-3)


def test_a_copy_in_another_precision_is_named_and_is_no_ingredient(
    program: Program, scan: Scan, folder: Path, tmp_path: Path
) -> None:
    scan(folder)
    a, b, _ = (folder / f"{name}.safetensors" for name in "abc")
    options = ("--method", "weighted-sum", "--alpha", "0.25", "--dtype", "fp32")
    blend = _merged(program, tmp_path / "blend.safetensors", "checkpoints", a, b, *options)
    half = tmp_path / "half.safetensors"
    program("convert", blend, "--dtype", "fp16", "-o", half)
    program("forget", half)
    done = explain(program, blend, "--with", half)
    assert [each["name"] for each in done.json["copies"]] == ["half"]
    assert _recipe(_part(done.json, "unet")) == pytest.approx({"a": 0.75, "b": 0.25})


def test_a_component_with_a_known_digest_is_not_read(
    program: Program, scan: Scan, folder: Path
) -> None:
    scan(folder)
    vae = _part(explain(program, folder / "a.safetensors").json, "vae")
    assert vae["identical"]
    assert vae["values"] == 0
    assert [vae["ingredients"][0]["name"], vae["ingredients"][0]["same"][0]["name"]] == ["b", "c"]


def test_what_nothing_explains_is_said_to_be_so(
    program: Program, scan: Scan, folder: Path, tmp_path: Path
) -> None:
    scan(folder)
    stranger = tmp_path / "stranger.safetensors"
    shapes = {f"x:{n}": s for n, s in sd1.checkpoint_shapes(cli_models.WIDTHS).items()}
    state = sd1.state_dict(shapes, fill=sd1.random_fill()).rename(lambda n: n.partition(":")[2])
    write_safetensors(state, stranger, with_hashes=False)
    done = explain(program, stranger)
    assert done.code == 1
    assert done.json["certainty"] == "unexplained"
    assert _part(done.json, "unet")["ingredients"] == []
    assert done.json["commands"] == []
    (error,) = done.json["errors"]
    assert error["code"] == "unexplained"
    assert "3 models" in error["hint"]
    assert "no model is related to it" in program("lineage", "explain", stranger).out


def test_a_merge_of_another_program_is_told_with_how_many_values_it_gives(
    program: Program, scan: Scan, folder: Path, tmp_path: Path
) -> None:
    """One that merges in half precision, and so rounds each product and their sum."""
    scan(folder)
    ours, theirs = (load_file(folder / f"{name}.safetensors") for name in "ab")
    halves = {
        name: (np.float16(0.3) * ours[name] + np.float16(0.7) * theirs[name]).astype(values.dtype)
        for name, values in ours.items()
    }
    blend = tmp_path / "halves.safetensors"
    save_file(halves, blend)
    part = _part(explain(program, blend).json, "unet")
    assert part["certainty"] == "within rounding"
    assert 0.3 < part["equal"] < 0.99
    (line,) = (t for t in program("lineage", "explain", blend).out.splitlines() if "unet" in t)
    assert "within fp16 rounding" in line
    assert f"{part['equal']:.2%} of {part['values']:,} values as stored" in line


def test_without_candidates_there_is_nothing_to_compare_with(
    program: Program, folder: Path
) -> None:
    done = explain(program, folder / "a.safetensors")
    assert done.code == 3
    assert done.json["errors"][0]["code"] == "not_available"


def test_wrong_calls_are_named(program: Program, folder: Path, tmp_path: Path) -> None:
    adapter = explain(program, folder / "style.safetensors")
    assert (adapter.code, adapter.json["errors"][0]["code"]) == (1, "wrong_family")
    nothing = explain(program, folder / "a.safetensors", "--with", tmp_path / "none")
    assert nothing.code == 2
    unknown = explain(program, folder / "a.safetensors", "--among", "colour:red")
    assert unknown.code == 2
    taken = tmp_path / "taken.toml"
    taken.write_text("mine")
    blend = tmp_path / "blend.safetensors"
    a, b, _ = (folder / f"{name}.safetensors" for name in "abc")
    program("scan", folder)
    _merged(program, blend, "checkpoints", a, b, "--method", "average")
    assert explain(program, blend, "--recipe", taken).json["errors"][0]["code"] == "target_exists"
    assert taken.read_text() == "mine"
    assert program("lineage", "show", "#999").code == 1


def test_a_tree_without_edges_says_so(program: Program, scan: Scan, folder: Path) -> None:
    scan(folder)
    assert "nothing is recorded" in program("lineage", "show", folder / "a.safetensors").out
