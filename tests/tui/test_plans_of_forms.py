"""The forms over real files: what they plan is what the operations then do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.rendering import SMALLEST

from assetmgr.operations.preview.render import PreviewResult
from assetmgr.operations.preview.sheets import Cell, Sheet, SheetPlan
from assetmgr.operations.scan import scan
from assetmgr.sampler.process.jobs import RenderOutcome
from assetmgr.sampler.process.sheet_jobs import SheetJob
from assetmgr.workspace import Workspace
from converters.errors import BadValue, FileMissing, WrongFamily
from converters.progress import SILENT
from tui.bridge import JobProgress, Lane
from tui.commands import Commands
from tui.forms import Form, Planned
from tui.merging import Merging

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
from small_models import safetensors, write_lora


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Two files of one LoRA and another one."""
    write_lora(tmp_path / "ink.safetensors", 1)
    write_lora(tmp_path / "copy of ink.safetensors", 1)
    write_lora(tmp_path / "wash.safetensors", 2)
    with Workspace.open() as workspace:
        scan(workspace, [str(tmp_path)])
        yield workspace


@pytest.fixture
def commands(workspace: Workspace) -> Commands:
    return Commands(workspace)


def ids(workspace: Workspace, query: str) -> list[int]:
    return [row.id for row in workspace.library.search(query).rows]


def planned(form: Form, **answers: str) -> Planned:
    return form.plan({field.name: field.value for field in form.fields} | answers)


def said(plan: Planned) -> str:
    rows = [f"{label} {value}" for section in plan.sections for label, value in section.rows]
    return "\n".join([*(section.title for section in plan.sections), *rows])


def test_a_conversion_goes_into_the_folder_that_was_named(
    commands: Commands, workspace: Workspace, tmp_path: Path
) -> None:
    form = commands.form("convert", ids(workspace, "wash"))
    plan = planned(form, dtype="fp32", folder=str(tmp_path / "out"))
    assert plan.work is not None
    assert str(tmp_path / "out" / "wash.safetensors") in said(plan)
    assert plan.work(SILENT).startswith("wash.safetensors, ")
    assert (tmp_path / "out" / "wash.safetensors").is_file()


def test_what_cannot_be_converted_is_named_and_the_rest_goes_on(
    commands: Commands, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "wash.safetensors").write_bytes(b"gone bad")
    form = commands.form("convert", ids(workspace, ""))
    plan = planned(form, folder=str(tmp_path / "out"))
    assert "Cannot be done" in said(plan)
    assert plan.work is not None


def test_an_adapter_needs_a_checkpoint_to_go_into(commands: Commands, workspace: Workspace) -> None:
    with pytest.raises(FileMissing, match="no sd-1 checkpoint"):
        commands.form("merge", ids(workspace, "wash"))


def test_nothing_but_embeddings_is_taken_out_of_a_lora(
    commands: Commands, workspace: Workspace
) -> None:
    with pytest.raises(WrongFamily, match="without embeddings"):
        planned(commands.form("extract", ids(workspace, "wash")))
    with pytest.raises(BadValue, match="nothing can be taken out"):
        commands.form("extract", ids(workspace, ""))


def test_embeddings_are_put_into_an_adapter_and_taken_out_again(
    commands: Commands, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "cat.safetensors").write_bytes(safetensors({"emb_params": (2, 768)}, {}, 1))
    scan(workspace, [str(tmp_path)])
    with pytest.raises(BadValue, match="mark the embeddings"):
        commands.form("merge", ids(workspace, "cat"))
    form = commands.form("merge", [*ids(workspace, "cat"), *ids(workspace, "wash")])
    plan = planned(form, output=str(tmp_path / "bundle.safetensors"))
    assert "cat" in said(plan)
    assert plan.work is not None
    assert plan.work(SILENT).startswith("1 file, ")
    form = commands.form("extract", ids(workspace, "bundle"))
    plan = planned(form, folder=str(tmp_path / "out"), rest=str(tmp_path / "rest.safetensors"))
    assert plan.work is not None
    assert plan.work(SILENT).startswith("2 files, ")
    assert (tmp_path / "out" / "cat.safetensors").is_file()
    assert (tmp_path / "rest.safetensors").is_file()


def test_what_a_site_says_is_kept_only_when_it_was_asked_for(
    commands: Commands, workspace: Workspace
) -> None:
    plan = planned(commands.form("enrich", ids(workspace, "")))
    assert "asks about 2 assets" in said(plan)
    assert plan.lane == Lane.NETWORK
    assert plan.work is not None


def test_a_scan_says_which_file_failed_and_why_or_where_to_read_of_many(
    commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / "first.safetensors").write_bytes(b"[x]")
    said, log = commands.rescan(SILENT), JobProgress()
    assert said.startswith(f"1 added, 1 failed: {tmp_path / 'first.safetensors'}: ")
    for name in ("second", "third"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    assert commands.rescan(log) == "2 added, 2 failed (J tells which)"
    assert sum(".safetensors: " in line for line in log.log) == 2


def test_only_one_checkpoint_is_explained(commands: Commands, workspace: Workspace) -> None:
    with pytest.raises(BadValue, match="one checkpoint"):
        commands.form("explain", ids(workspace, "wash"))


def test_copies_become_links_and_get_their_bytes_back(commands: Commands, tmp_path: Path) -> None:
    first, second = tmp_path / "ink.safetensors", tmp_path / "copy of ink.safetensors"
    plan = planned(commands.clearing.link_form())
    assert "copies 1" in said(plan)
    assert plan.work is not None
    assert plan.work(SILENT) == "1 linked"
    assert first.samefile(second)
    back = planned(commands.clearing.unlink_form())
    assert back.work is not None
    assert back.work(SILENT) == "1 given back"
    assert not first.samefile(second)
    assert planned(commands.clearing.unlink_form()).work is None


def test_the_trash_names_every_file_that_goes(
    commands: Commands, workspace: Workspace, tmp_path: Path
) -> None:
    beside = tmp_path / "wash.txt"
    beside.write_text("trigger")
    plan = planned(commands.form("trash", ids(workspace, "wash")))
    assert str(tmp_path / "wash.safetensors") in said(plan)
    assert plan.work is not None


def test_a_rank_is_a_whole_number(commands: Commands, workspace: Workspace) -> None:
    from tui.answers import whole

    assert whole("32", "a rank") == 32
    for wrong in ("", "x", "-1", "0", "1.5", "99999999"):
        with pytest.raises(BadValue):
            whole(wrong, "a rank")


def test_a_file_is_renamed_and_taken_back(
    commands: Commands, workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "wash.txt").write_text("trigger")
    form = commands.form("move", ids(workspace, "wash"))
    with pytest.raises(BadValue, match="nothing would move"):
        planned(form)
    plan = planned(form, name="[new] wash", folder=str(tmp_path / "deep"))
    assert "[new] wash.safetensors" in said(plan)
    assert plan.work is not None
    assert plan.work(SILENT) == "1 moved"
    assert (tmp_path / "deep" / "[new] wash.txt").is_file()
    assert ids(workspace, "[new]")
    change = commands.undos.take()
    assert change is not None
    assert change.back(SILENT) == "1 moved back"
    assert (tmp_path / "wash.txt").is_file()
    assert planned(form, name="ink").work is None  # which is taken


def test_two_adapters_become_one(commands: Commands, workspace: Workspace, tmp_path: Path) -> None:
    form = commands.form("merge", [*ids(workspace, "wash"), *ids(workspace, "ink")[:1]])
    plan = planned(form, **{"weight 0": "0.5", "output": str(tmp_path / "both.safetensors")})
    assert "adapters 2" in said(plan)
    with pytest.raises(BadValue, match="'1abc' is no weight"):
        planned(form, **{"weight 0": "1abc"})
    assert plan.work is not None
    assert plan.work(SILENT).startswith("both.safetensors, ")


def test_the_file_of_a_merge_is_named_for_the_base_that_is_chosen(
    commands: Commands, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    wash, ink = (workspace.library.get(ids(workspace, name)[0]) for name in ("wash", "ink"))
    monkeypatch.setattr(Merging, "_bases", lambda *_: [ink, wash])
    form = commands.form("merge", [wash.id, wash.id])
    output = next(field for field in form.fields if field.name == "output")
    assert output.proposal is not None
    assert Path(output.value).name == f"{ink.name}+wash+wash.safetensors"
    for base, name in ((wash.path, "wash+wash+wash"), (ink.path, Path(output.value).stem)):
        assert Path(output.proposal({"base": str(base)})).stem == name
    assert Path(output.proposal({"base": ""})).stem == "wash+wash"


def test_a_lora_gets_another_rank(commands: Commands, workspace: Workspace, tmp_path: Path) -> None:
    form = commands.form("resize", ids(workspace, "wash"))
    plan = planned(form, size="1")
    assert plan.work is not None
    assert "wash.small.safetensors" in plan.work(SILENT)
    for wrong in ("", "none", "0", "200%"):
        with pytest.raises(BadValue):
            planned(form, size=wrong, output=str(tmp_path / "other.safetensors"))


def test_the_library_is_shown_to_another_program_and_hidden_again(
    commands: Commands, tmp_path: Path
) -> None:
    form = commands.library_form("link", "wash")
    with pytest.raises(BadValue, match="whose folder"):
        planned(form)
    plan = planned(form, directory=str(tmp_path / "ComfyUI"))
    assert "linked 1" in said(plan)
    assert plan.work is not None
    assert plan.work(SILENT) == "1 linked, 0 removed"
    back = planned(form, directory=str(tmp_path / "ComfyUI"), do="remove")
    assert back.work is not None
    assert back.work(SILENT) == "0 linked, 1 removed"


def test_sidecars_are_written_for_a_program(
    commands: Commands, workspace: Workspace, tmp_path: Path
) -> None:
    plan = planned(commands.form("sidecar", ids(workspace, "wash")), program="a1111")
    assert "wash.json" in said(plan)
    assert plan.work is not None
    assert plan.work(SILENT) == "1 written"
    assert (tmp_path / "wash.json").is_file()


def test_what_was_typed_goes_to_a_file_and_comes_back(
    commands: Commands, workspace: Workspace, tmp_path: Path
) -> None:
    commands.annotations.note(ids(workspace, "wash"), "best")
    plan = planned(commands.library_form("export", ""), output=str(tmp_path / "mine.json"))
    assert plan.work is not None
    plan.work(SILENT)
    commands.annotations.note(ids(workspace, "wash"), "")
    back = planned(commands.library_form("import", ""), file=str(tmp_path / "mine.json"))
    assert back.work is not None
    assert back.work(SILENT) == "1 changed, 0 as they were, 0 unknown"
    with pytest.raises(FileMissing):
        planned(commands.library_form("import", ""), file=str(tmp_path / "none.json"))


def test_a_render_is_asked_for_in_numbers(commands: Commands, workspace: Workspace) -> None:
    form = commands.form("preview", ids(workspace, "wash"))
    assert planned(form).work is not None
    for wrong in ({"seed": "x"}, {"size": "7"}, {"steps": "0"}, {"cfg": "much"}, {"weight": ""}):
        with pytest.raises(BadValue):
            planned(form, **wrong)


def test_a_sampler_that_the_model_has_no_form_for_is_told(
    commands: Commands, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = RenderOutcome(None, None, (), 1.0, 0.5, None, SMALLEST.parameters("cpu", "fp32"))
    cell = Cell(2, "wash.safetensors", SMALLEST, outcome)
    plan = SheetPlan((), SheetJob((SMALLEST, SMALLEST), ("a", "b"), ("",), "sheet.png", True))
    for name, made in {
        "render.run_previews": [PreviewResult(2, "wash.safetensors", outcome)],
        "sheets.plan_comparison": plan,
        "sheets.draw": Sheet("sheet.png", (cell, cell), None, 2.0),
    }.items():
        monkeypatch.setattr(f"assetmgr.operations.preview.{name}", lambda *_, made=made, **__: made)
    found = ids(workspace, "")[:2]
    for verb, marked, done in (
        ("preview", found[:1], "ok in 1.0 s"),
        ("sheet", found, "2 renders in 2.0 s"),
    ):
        form = commands.form(verb, marked)
        for sampler, more in (
            ("LCM", ", sampled by Euler: LCM has no form for this model"),
            ("Euler", ""),
            ("", ""),
        ):
            rendered = planned(form, sampler=sampler)
            assert rendered.work is not None
            assert rendered.work(SILENT) == done + more


def test_a_folder_is_taken_out_of_the_library_and_its_files_stay(
    commands: Commands, workspace: Workspace, tmp_path: Path
) -> None:
    commands.annotations.rate(ids(workspace, "wash"), 5)
    form = commands.library_form("forget", "")
    (field,) = form.fields
    assert [value for value, _ in field.options] == [str(tmp_path)]
    plan = planned(form)
    assert "holds 2 assets" in said(plan)
    assert plan.work is not None
    assert plan.work(SILENT) == f"{tmp_path} forgotten"
    assert ids(workspace, "") == ids(workspace, "wash is:missing")
    assert (tmp_path / "wash.safetensors").is_file()
    with pytest.raises(BadValue, match="no folder"):
        commands.library_form("forget", "")
