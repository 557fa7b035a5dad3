"""The forms over real files: what they plan is what the operations then do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assetmgr.operations.scan import scan
from assetmgr.workspace import Workspace
from converters.errors import BadValue, FileMissing
from converters.progress import SILENT
from tui.commands import Commands
from tui.forms import Form, Planned

sys.path.insert(0, str(Path(__file__).parents[1] / "registry"))
from small_models import write_lora


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


def test_nothing_is_taken_out_of_a_lora(commands: Commands, workspace: Workspace) -> None:
    with pytest.raises(BadValue, match="nothing can be taken out"):
        commands.form("extract", ids(workspace, "wash"))


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
    from tui.making import _whole

    assert _whole("32", "a rank") == 32
    for wrong in ("", "x", "-1", "0", "1.5", "99999999"):
        with pytest.raises(BadValue):
            _whole(wrong, "a rank")
