"""Every command answers `--help` and `--json`, with the exit codes and fields of the contract."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from assetmgr.cli.main import COMMANDS, cli
from converters.errors import AssetmgrError

if TYPE_CHECKING:
    from conftest import Models, Program

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
JSON_PAGE = (ROOT / "docs" / "json.md").read_text("utf-8")


def _words(text: str) -> set[str]:
    return set(text.split())


HASHES = {"blake3", "sha256", "crc32", "autov1", "autov2", "autov3"}
INSPECTION = _words(
    "path bytes container kind base variant prediction layout algorithm rank confidence evidence "
    "tensors parameters dtypes components metadata trigger_words about safety problems "
    "compatibility"
)
ASSET = _words(
    "id name kind base variant prediction algorithm layout container bytes hashes files tags note "
    "rating trigger_words metadata sources derived_from preview sidecars verification safety added "
    "updated"
)
SCAN = _words(
    "roots programs added updated moved missing restored unchanged failed contradicted "
    "bytes_hashed seconds errors"
)
CONVERSION = _words("source target container tensors bytes seconds hashes dropped warnings")
ERROR = {"path", "error", "code", "hint"}


def _calls() -> Iterator[tuple[str, click.Command]]:
    """Every command that can be called, `merge adapters` as well as `list`."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            for verb in command.list_commands(context):
                inner = command.get_command(context, verb)
                assert inner is not None
                yield f"{name} {verb}", inner
        else:
            yield name, command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, program: Program) -> None:
    for call, _ in _calls():
        if call.split()[0] == name:
            done = program(*call.split(), "--help")
            assert done.code == 0
            assert f"Example: assetmgr {call}" in re.sub(r"\s+", " ", done.out)
            assert done.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_switches(name: str) -> None:
    for call, command in _calls():
        if call.split()[0] == name:
            switches = {option for parameter in command.params for option in parameter.opts}
            assert switches >= {"--json", "--quiet", "--verbose", "--debug"}, call


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_the_json_page(name: str) -> None:
    for call, _ in _calls():
        if call.split()[0] == name:
            assert f"assetmgr {call}" in README
            assert re.search(rf"^## .*`{call}`", JSON_PAGE, re.MULTILINE), call


def test_the_help_of_the_table_is_that_of_the_commands(program: Program) -> None:
    shown = program("--help").out
    assert all(re.search(rf"^  {name}\s+\S", shown, re.MULTILINE) for name in COMMANDS)


def _error_classes(root: type[AssetmgrError]) -> Iterator[type[AssetmgrError]]:
    yield root
    for derived in root.__subclasses__():
        yield from _error_classes(derived)


def test_the_json_page_names_every_error_code_and_exit_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", JSON_PAGE, re.MULTILINE)
    told = {code: int(exit_code) for code, exit_code in rows}
    assert {c.code: c.exit_code for c in _error_classes(AssetmgrError)}.items() <= told.items()
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "assetmgr").rglob("*.py"))
    for code in told:
        assert f'"{code}"' in sources or code in {c.code for c in _error_classes(AssetmgrError)}


WRONG_CALLS: tuple[tuple[str, ...], ...] = (
    ("nonsense",),
    ("inspect",),
    ("inspect", "--nonsense", "x"),
    ("convert", "x", "--dtype", "fp12"),
    ("convert", "x", "--ema", "perhaps"),
    ("convert", "x", "y", "-o", "z"),
    ("convert", "x", "-o", "y", "--output-dir", "z"),
    ("list", "--limit", "-1"),
    ("list", "--limit", "many"),
    ("list", "--offset", "99999999999999999999"),
    ("hub", "search", "x", "--limit", "99999999999999999999"),
    ("list", "--sort", "colour"),
    ("list", "--nonsense"),
    ("list", "colour:red"),
    ("list", "size:big"),
    ("show",),
    ("show", "a", "b"),
    ("tag", "#1"),
    ("tag", "+x"),
    ("tag", "#1", "--nonsense"),
    ("link", "x", "--layout", "a1111", "--nonsense"),
    ("merge",),
    ("merge", "nonsense"),
    ("merge", "adapters", "x"),
    ("merge", "adapters", "x", "y"),
    ("merge", "adapters", "x", "y=heavy", "-o", "z"),
    ("merge", "adapters", "x", "y=1,2,3", "-o", "z"),
    ("merge", "adapters", "x", "y=nan", "-o", "z"),
    ("merge", "adapters-into-one", "x", "-o", "z"),
    ("merge", "adapters-into-one", "x", "y", "--rank", "0", "-o", "z"),
    ("merge", "checkpoints", "x", "y", "--alpha", "1", "-o", "z"),
    ("merge", "checkpoints", "x", "y", "--method", "stir", "-o", "z"),
    ("merge", "checkpoints", "x", "y", "--method", "slerp", "--alpha", "heavy", "-o", "z"),
    ("merge", "checkpoints", "x", "y", "--method", "slerp", "--components", "vae", "-o", "z"),
    ("merge", "replay", "x.toml"),
    ("extract", "lora", "x", "y", "-o", "z"),
    ("extract", "lora", "x", "y", "--rank", "many", "-o", "z"),
    ("extract", "lora", "x", "--rank", "4", "-o", "z"),
    ("resize", "x", "--rank", "4", "--energy", "0.5", "-o", "z"),
    ("resize", "x", "--rank", "4"),
    ("hub", "search", "x", "--kind", "nonsense"),
    ("hub", "search", "x", "--base", "nonsense"),
    ("hub", "search", "x", "--offset", "-1"),
    ("hub", "info"),
    ("hub", "info", "no repository"),
    ("login",),
    ("login", "nonsense"),
    ("logout", "nonsense"),
    ("civitai", "search", "x", "--kind", "nonsense"),
    ("civitai", "search", "x", "--limit", "0"),
    ("civitai", "info", "nonsense"),
    ("civitai", "lookup"),
    ("civitai", "enrich"),
    ("civitai", "search", "x", "--period", "nonsense"),
    ("civitai", "download"),
    ("civitai", "download", "https://civitai.com/models/70"),
)


@pytest.mark.parametrize("call", WRONG_CALLS, ids=" ".join)
def test_a_wrong_call_is_one_line_one_document_and_exit_code_2(
    call: tuple[str, ...], program: Program
) -> None:
    plain = program(*call)
    assert plain.code == 2
    assert plain.out == ""
    assert len(plain.errors) == 1
    assert [line for line in plain.err.splitlines() if not line.startswith("hint: ")] == (
        plain.errors
    )
    asked = program(*call, "--json")
    assert asked.code == 2
    (error,) = asked.json["errors"]
    assert set(error) == ERROR
    assert error["code"] in ({"usage"} if "--nonsense" in call else {"usage", "bad_value"})


def test_a_misspelled_command_is_suggested(program: Program) -> None:
    assert "Did you mean 'inspect'?" in program("inspekt", "x").err


def test_a_group_without_a_verb_names_its_verbs(program: Program) -> None:
    done = program("merge")
    assert done.errors == [
        "error: Name what to do: adapters, adapters-into-one, checkpoints, embeddings, replay."
    ]


def test_inspect_has_the_fields_of_the_contract(program: Program, models: Models) -> None:
    (found,) = program("inspect", "--json", models.checkpoint).json
    assert set(found) == INSPECTION
    assert (found["kind"], found["base"], found["layout"]) == ("checkpoint", "sd-1", "ldm")
    assert found["prediction"] == "epsilon"
    assert found["variant"] is None
    assert found["rank"] is None
    assert found["metadata"]["author"] == "somebody"
    assert {part["name"] for part in found["components"]} >= {"unet", "vae", "text_encoder"}
    assert set(found["components"][0]) == {"name", "tensors", "parameters"}
    assert found["safety"] == {"verdict": "safe", "imports": [], "findings": []}
    assert found["tensors"] == sum(found["dtypes"].values())


def test_inspect_adds_tensors_and_hashes_on_request(program: Program, models: Models) -> None:
    (found,) = program("inspect", "--json", "--tensors", "--hash", models.lora).json
    assert set(found) == INSPECTION | {"tensor_list", "hashes"}
    assert (found["kind"], found["algorithm"], found["rank"]) == ("lora", ["lora"], 4)
    assert len(found["tensor_list"]) == found["tensors"]
    assert all(set(tensor) == {"name", "dtype", "shape"} for tensor in found["tensor_list"])
    assert set(found["hashes"]) == HASHES | {"weights"}


def test_what_was_asked_for_of_a_file_that_cannot_be_opened_is_null(
    program: Program, tmp_path: Path
) -> None:
    poem = tmp_path / "poem.safetensors"
    poem.write_text("hello, I am a poem\n" * 9)
    (found,) = program("inspect", "--json", "--tensors", "--hash", poem).json
    assert set(found) >= INSPECTION | {"tensor_list", "hashes"}
    assert (found["tensor_list"], found["hashes"]) == ([], None)


def test_inspect_says_whether_an_adapter_fits_a_checkpoint(
    program: Program, models: Models
) -> None:
    (found,) = program("inspect", "--json", models.lora, "--with", models.checkpoint).json
    fitting = found["compatibility"]
    assert set(fitting) == {"fits", "reason", "modules", "changed", "unused"}
    assert (fitting["fits"], fitting["unused"]) == (True, [])
    assert fitting["modules"] == len(fitting["changed"]) == 7
    shown = program("inspect", models.lora, "--with", models.checkpoint).out
    assert "yes: all of its 7 modules find their weight" in shown
    assert "7 tensors: " in shown


def test_inspect_without_a_checkpoint_says_nothing_about_fitting(
    program: Program, models: Models
) -> None:
    (found,) = program("inspect", "--json", models.lora).json
    assert found["compatibility"] is None
    assert "fits" not in program("inspect", models.lora).out


def test_inspect_with_a_checkpoint_that_cannot_be_opened_fails_as_a_whole(
    program: Program, models: Models, tmp_path: Path
) -> None:
    done = program("inspect", "--json", models.lora, "--with", tmp_path / "gone.safetensors")
    assert done.code == 1
    (error,) = done.json["errors"]
    assert error["code"] == "not_found"


def test_hash_has_the_fields_of_the_contract(program: Program, models: Models) -> None:
    first, second = program("hash", "--json", models.lora, models.pickled).json
    assert set(first) == set(second) == {"path", "bytes", "weights"} | HASHES
    assert first["bytes"] == models.lora.stat().st_size
    assert first["autov2"] == first["sha256"][:10]
    assert second["autov3"] is None, "AutoV3 is a hash of safetensors files only"
    values = [value for value in first.values() if isinstance(value, str)][1:]
    assert all(re.fullmatch("[0-9a-f]+", value) for value in values)


def test_scan_list_and_show_have_the_fields_of_the_contract(
    program: Program, models: Models
) -> None:
    report = program("scan", "--json", models.folder)
    assert report.code == 0
    assert set(report.json) == SCAN
    assert report.json["added"] == 5
    listed = program("list", "--json", "kind:lora", "--sort", "-size", "--limit", "2").json
    assert listed["total"] == 3
    assert len(listed["assets"]) == 2
    shown = program("show", "--json", f"#{listed['assets'][0]['id']}").json
    assert [part.pop("shared_with") for part in shown["components"]] == [[], []]
    assert {key: shown[key] for key in listed["assets"][0]} == listed["assets"][0]
    assert set(shown) >= ASSET
    assert set(shown["hashes"]) >= HASHES
    assert set(shown["verification"]) == {"integrity", "structure", "render"}
    assert shown["preview"] is None
    assert all(set(file) == {"path", "state", "machine"} for file in shown["files"])


def test_failed_items_have_every_field_too(program: Program, tmp_path: Path) -> None:
    empty = tmp_path / "empty.ckpt"
    empty.touch()
    for command, fields in (
        ("inspect", INSPECTION),
        ("hash", {"path", "bytes", "weights"} | HASHES),
        ("convert", CONVERSION),
    ):
        missing = tmp_path / "missing.ckpt"
        done = program(command, "--json", missing)
        assert done.code == 1, command
        (item,) = done.json
        assert set(item) >= fields | ERROR | {"errors"}, command
        assert item["errors"] == [{key: item[key] for key in ERROR}]
        assert (item["code"], item["path"]) == ("not_found", str(missing))


def test_a_failed_command_still_prints_one_document(program: Program, models: Models) -> None:
    done = program("show", "--json", "nothing like it")
    assert done.code == 1
    assert done.json["errors"][0]["code"] == "asset_not_found"
    done = program("merge", "adapters", "--json", models.checkpoint, "absent", "-o", "x")
    assert done.code == 1
    assert done.json["errors"][0]["code"] == "asset_not_found"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("colour = 'red'", "unknown setting 'colour'"),
        ("images = 3", "must be a text"),
        ("images = 'big'", "must be one of"),
        ("= =", "is not TOML"),
        ("\x00", "is not TOML"),
    ],
)
def test_wrong_settings_are_named_with_exit_code_2(
    text: str, cause: str, program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASSETMGR_HOME", str(tmp_path))
    (tmp_path / "config.toml").write_text(text)
    done = program("list")
    assert done.code == 2
    assert cause in done.errors[0]
    assert str(tmp_path / "config.toml") in done.errors[0]


def test_the_state_is_made_where_it_is_wanted(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / "not" / "yet" / "there"
    monkeypatch.setenv("ASSETMGR_HOME", str(home))
    assert program("inspect", tmp_path).code == 0
    assert not home.exists(), "looking into files needs no library"
    assert program("list").code == 0
    assert (home / "library.db").is_file()


def test_a_state_folder_that_is_a_file_is_named(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASSETMGR_HOME", str(tmp_path / "file"))
    done = program("list")
    assert done.code == 2
    assert str(tmp_path / "file") in done.errors[0]


def test_a_database_url_that_is_none_is_named(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("nonsense", "nonsense://x"):
        monkeypatch.setenv("ASSETMGR_DATABASE_URL", url)
        done = program("list")
        assert done.code in {2, 3}
        assert len(done.errors) == 1
        assert "internal" not in done.err


def test_quiet_leaves_only_errors_on_stderr(program: Program, models: Models) -> None:
    target = models.folder / "never.safetensors"
    loud = program("convert", models.pickled, "-o", target, "--dry-run")
    assert loud.out
    quiet = program("convert", models.pickled, "-o", target, "--dry-run", "--quiet")
    assert quiet.err == ""
    assert quiet.out == loud.out
    assert program("inspect", "absent.ckpt", "--quiet").errors


def test_json_is_valid_for_numbers_that_are_not_finite(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from assetmgr.cli.output import Output

    Output(as_json=True).document({"checks": [{"value": float("nan")}, float("inf"), 1.5]})
    assert json.loads(capsys.readouterr().out) == {"checks": [{"value": None}, None, 1.5]}
