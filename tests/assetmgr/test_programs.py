"""Whose folder it is, and the folders of models that its configuration names elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import cli_models
import pytest
from helpers.examples import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from assetmgr.operations.programs import recognise

if TYPE_CHECKING:
    from conftest import Program

MARKERS = {
    "AUTOMATIC1111": ("webui.py", "launch.py", "modules/"),
    "Forge": ("webui.py", "launch.py", "modules/", "modules_forge/"),
    "SD.Next": ("webui.py", "launch.py", "installer.py", "modules/"),
    "Fooocus": ("webui.py", "launch.py", "modules/", "fooocus_version.py"),
    "ComfyUI": ("main.py", "folder_paths.py", "comfy/"),
    "InvokeAI": ("invokeai.yaml",),
    "StabilityMatrix": ("Data/Packages/", "Data/settings.json"),
    "kohya": ("kohya_gui.py",),
    "Hugging Face cache": ("models--org--name/snapshots/",),
}


def _install(root: Path, *names: str) -> Path:
    for name in names:
        place = root / name
        if name.endswith("/"):
            place.mkdir(parents=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "program"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder of models outside of any program."""
    folder = tmp_path / "my models"
    for name in ("loras", "more loras", "checkpoints", "models", "embeddings"):
        (folder / name).mkdir(parents=True)
    return folder


def _folders(root: Path, models: Path) -> list[str]:
    found = recognise(root)
    assert found is not None
    return [Path(folder).relative_to(models).as_posix() for folder in found.folders]


@pytest.mark.parametrize("name", MARKERS)
def test_a_program_is_recognised_by_its_markers(name: str, root: Path) -> None:
    found = recognise(_install(root, *MARKERS[name]))
    assert found is not None
    assert (found.name, found.root, found.folders) == (name, str(root), ())


@pytest.mark.parametrize("names", [(), ("modules/",), ("webui.py",), ("models/",), ("main.py",)])
def test_any_other_folder_is_nobodys(names: tuple[str, ...], root: Path) -> None:
    assert recognise(_install(root, *names)) is None


@pytest.mark.parametrize("folder", ["", "no such folder", "x" * 5000])
def test_what_is_no_folder_is_nobodys(folder: str) -> None:
    assert recognise(folder) is None


def test_comfyui_names_folders_in_sections_one_or_several_a_key(root: Path, models: Path) -> None:
    _install(root, *MARKERS["ComfyUI"])
    (root / "extra_model_paths.yaml").write_text(
        f"""
# what people keep in it
mine:
    base_path: {models}
    is_default: true
    loras: |
        loras
        more loras
    embeddings:
    custom_nodes: models
other:
    checkpoints: ../my models/checkpoints
empty:
"""
    )
    assert _folders(root, models) == ["loras", "more loras", "checkpoints"]


def test_a1111_names_folders_by_flags_in_the_shells_file(root: Path, models: Path) -> None:
    _install(root, *MARKERS["AUTOMATIC1111"])
    (root / "webui-user.sh").write_text(
        "#!/bin/bash\n"
        "# Commandline arguments for webui.py, for example:\n"
        '#export COMMANDLINE_ARGS="--ckpt-dir /elsewhere"\n'
        f"export COMMANDLINE_ARGS=\"--xformers --lora-dir '{models}/loras' "
        f"--ckpt-dir='{models}/checkpoints' --data-dir '{models}'\"  # mine\n"
    )
    assert _folders(root, models) == ["loras", "checkpoints", "models", "embeddings"]


def test_a1111_names_folders_by_flags_in_the_batch_file(root: Path, models: Path) -> None:
    _install(root, *MARKERS["Forge"])
    (root / "webui-user.bat").write_text(
        "@echo off\r\nset PYTHON=\r\n"
        f'set COMMANDLINE_ARGS=--lora-dir "{models}/loras" --medvram --embeddings-dir\r\n'
    )
    assert _folders(root, models) == ["loras"]


def test_sdnext_names_folders_in_its_settings(root: Path, models: Path) -> None:
    _install(root, *MARKERS["SD.Next"])
    document = {"lora_dir": str(models / "loras"), "vae_dir": "models/VAE", "sd_model": "x"}
    (root / "config.json").write_text(json.dumps(document))
    assert _folders(root, models) == ["loras"]


def test_fooocus_names_lists_of_folders(root: Path, models: Path) -> None:
    _install(root, *MARKERS["Fooocus"])
    lists = {
        "path_loras": [str(models / "loras"), str(models / "more loras")],
        "path_checkpoints": str(models / "checkpoints"),
    }
    (root / "config.txt").write_text(json.dumps(lists))
    assert _folders(root, models) == ["checkpoints", "loras", "more loras"]


@pytest.mark.parametrize(
    "text", ["models_dir: {0}/models", "InvokeAI:\n  Paths:\n    models_dir: {0}/models"]
)
def test_invokeai_names_its_folder_in_both_forms(text: str, root: Path, models: Path) -> None:
    _install(root, *MARKERS["InvokeAI"])
    (root / "invokeai.yaml").write_text(text.format(models))
    assert _folders(root, models) == ["models"]


def test_stability_matrix_and_kohya_name_a_folder(root: Path, models: Path) -> None:
    _install(root, *MARKERS["StabilityMatrix"])
    settings = {"ModelDirectoryOverride": str(models / "models")}
    (root / "Data" / "settings.json").write_text(json.dumps(settings))
    assert _folders(root, models) == ["models"]
    other = _install(root.with_name("kohya"), *MARKERS["kohya"])
    path = (models / "loras").as_posix()
    (other / "config.toml").write_text(f'[model]\nmodels_dir = ""\noutput_dir = "{path}"\n')
    assert _folders(other, models) == ["loras"]


def test_folders_that_are_not_there_or_hold_the_program_are_told_and_not_scanned(
    root: Path, models: Path
) -> None:
    _install(root, *MARKERS["SD.Next"])
    paths = {"lora_dir": "/no/such/folder", "vae_dir": str(root.parent), "ckpt_dir": str(models)}
    (root / "config.json").write_text(json.dumps(paths))
    found = recognise(root)
    assert found is not None
    assert found.folders == (str(models),)
    assert len(found.warnings) == 2
    assert all("is named for models" in w or "holds the program" in w for w in found.warnings)


CONFIGURED = {
    "ComfyUI": "extra_model_paths.yaml",
    "AUTOMATIC1111": "webui-user.sh",
    "SD.Next": "config.json",
    "Fooocus": "config.txt",
    "InvokeAI": "invokeai.yaml",
    "StabilityMatrix": "Data/settings.json",
    "kohya": "config.toml",
}
BROKEN = (
    "[1, 2]",
    "{",
    "a: b: c: [",
    "!!python/object/apply:os.system ['touch {marker}']",
    "export COMMANDLINE_ARGS=\"--lora-dir 'x",
    "[" * 50_000,
    "x: &a [*a, *a]\ny: 2001-99-99",
    "\x00\x01",
    "a" * (5 << 20),
)


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("name", CONFIGURED)
def test_a_broken_configuration_is_a_warning_and_runs_nothing(
    name: str, text: str, root: Path, tmp_path: Path
) -> None:
    _install(root, *MARKERS[name])
    marker = tmp_path / "marker"
    (root / CONFIGURED[name]).write_text(text.replace("{marker}", str(marker)))
    found = recognise(root)
    assert found is not None
    assert found.folders == ()
    assert not marker.exists()


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("SD.Next", {"lora_dir": 7, "ckpt_dir": ["x"], "vae_dir": None, "te_dir": "a\0b"}),
        ("Fooocus", {"path_loras": [1, None, {}], "path_vae": {}, "path_checkpoints": "~nobody/x"}),
        ("ComfyUI", {"a": 1, "b": {"loras": [1], "vae": 2, "base_path": 3}, "c": None}),
    ],
)
def test_values_of_other_types_are_warnings(
    name: str, document: dict[str, object], root: Path
) -> None:
    _install(root, *MARKERS[name])
    (root / CONFIGURED[name]).write_text(json.dumps(document))
    found = recognise(root)
    assert found is not None
    assert (found.folders, bool(found.warnings)) == ((), True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_no_configuration(root: Path) -> None:
    _install(root, *MARKERS["ComfyUI"])
    os.mkfifo(root / "extra_model_paths.yaml")
    found = recognise(root)
    assert found is not None
    assert "not a regular file" in found.warnings[0]


@examples(50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from(list("ab: -|>&*!{}[]'\"\n#%@~.?<,")), max_size=60))
def test_no_text_at_all_stops_a_scan(text: str, tmp_path: Path) -> None:
    root = tmp_path / "any"
    if not root.exists():
        _install(root, *MARKERS["ComfyUI"])
    (root / "extra_model_paths.yaml").write_text(text)
    assert recognise(root) is not None


def test_a_scan_says_whose_folder_it_is_and_looks_where_its_settings_point(
    program: Program, root: Path, models: Path
) -> None:
    _install(root, *MARKERS["SD.Next"])
    paths = {"lora_dir": str(models / "loras"), "vae_dir": "/no/such/folder"}
    (root / "config.json").write_text(json.dumps(paths))
    cli_models.lora(models / "loras" / "style.safetensors", text=False)
    done = program("scan", root, "--json")
    assert (done.code, done.json["added"]) == (0, 1)
    (found,) = done.json["programs"]
    assert (found["program"], found["root"]) == ("SD.Next", str(root))
    assert found["folders"] == [str(models / "loras")]
    assert done.json["roots"] == [str(root), str(models / "loras")]
    assert "/no/such/folder is named for models" in done.err
    assert f"SD.Next: {root}, {models / 'loras'}" in program("scan", root).out
    assert program("scan", "--json").json["programs"] == []


@pytest.mark.usefixtures("quick_probe")
def test_the_doctor_names_the_programs_of_the_folders(program: Program, root: Path) -> None:
    _install(root, *MARKERS["ComfyUI"], "models/")
    program("scan", root / "models")
    checks = {check["name"]: check for check in program("doctor", "--json").json["checks"]}
    assert checks["programs"]["detail"] == f"ComfyUI in {root}"
