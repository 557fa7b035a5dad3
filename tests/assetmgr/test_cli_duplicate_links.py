"""`duplicates --link` and `--undo`: copies become links, and files of their own again."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli_models
import pytest
from helpers.dying import KILLED, Dying

from assetmgr.operations import file_links
from assetmgr.operations.duplicates.journal import NAME

if TYPE_CHECKING:
    from conftest import Program

OLD = 1_600_000_000_000_000_000
LINK = ("duplicates", "--link", "--json")
UNDO = ("duplicates", "--undo", "--json")


@pytest.fixture
def folder(program: Program, tmp_path: Path) -> Path:
    """A file and an older copy of it in another folder, scanned."""
    folder = tmp_path / "library"
    (folder / "b").mkdir(parents=True)
    first = cli_models.lora(folder / "a.safetensors", text=False)
    shutil.copyfile(first, folder / "b" / "copy.safetensors")
    os.utime(folder / "b" / "copy.safetensors", ns=(OLD, OLD))
    program("scan", folder)
    return folder


def _pair(folder: Path) -> tuple[Path, Path]:
    return folder / "a.safetensors", folder / "b" / "copy.safetensors"


def _journal() -> Path:
    return Path(os.environ["ASSETMGR_HOME"], NAME)


def _rescan(program: Program) -> Any:
    return program("scan", "--json").json


def test_a_copy_becomes_a_name_of_the_file_that_is_kept(program: Program, folder: Path) -> None:
    kept, copy = _pair(folder)
    nbytes, content = copy.stat().st_size, copy.read_bytes()
    done = program(*LINK)
    assert done.code == 0
    (linked,) = done.json["linked"]
    assert linked == {
        "asset": 1,
        "path": str(copy),
        "kept": str(kept),
        "as": "hardlink",
        "bytes": nbytes,
        "frees": nbytes,
    }
    assert done.json["reclaimed"] == nbytes
    assert copy.samefile(kept)
    assert copy.read_bytes() == content
    assert program(*LINK).json == {"linked": [], "reclaimed": 0, "errors": []}
    assert program("duplicates", "--json").json["reclaimable"] == 0


def test_the_next_scan_hashes_nothing_again(program: Program, folder: Path) -> None:
    program(*LINK)
    assert _rescan(program)["bytes_hashed"] == 0
    program(*UNDO)
    report = _rescan(program)
    assert (report["bytes_hashed"], report["unchanged"]) == (0, 2)


def test_undo_gives_every_file_its_own_bytes_and_time_back(program: Program, folder: Path) -> None:
    kept, copy = _pair(folder)
    before, mode = kept.read_bytes(), copy.stat().st_mode
    program(*LINK)
    done = program(*UNDO)
    assert [restored["path"] for restored in done.json["restored"]] == [str(copy)]
    assert not copy.samefile(kept)
    assert copy.read_bytes() == kept.read_bytes() == before
    assert (copy.stat().st_mtime_ns, copy.stat().st_mode) == (OLD, mode)
    assert not _journal().exists()
    assert program(*UNDO).json == {"restored": [], "errors": []}


def test_a_dry_run_only_says_it(program: Program, folder: Path) -> None:
    kept, copy = _pair(folder)
    assert len(program(*LINK, "--dry-run").json["linked"]) == 1
    assert not copy.samefile(kept)
    program(*LINK)
    assert len(program(*UNDO, "--dry-run").json["restored"]) == 1
    assert copy.samefile(kept)
    assert len(program(*UNDO).json["restored"]) == 1


def test_room_that_two_names_share_is_counted_once(program: Program, folder: Path) -> None:
    _, copy = _pair(folder)
    os.link(copy, folder / "b" / "another name.safetensors")
    os.link(folder / "a.safetensors", folder / "a name.safetensors")
    os.link(folder / "a.safetensors", folder / "a third name.safetensors")
    program("scan", folder)
    done = program(*LINK).json
    assert len(done["linked"]) == 2
    assert done["reclaimed"] == copy.stat().st_size


def test_a_file_that_changed_since_the_scan_is_refused(program: Program, folder: Path) -> None:
    _, copy = _pair(folder)
    copy.write_bytes(b"something else")
    done = program(*LINK)
    assert done.code == 1
    assert [error["code"] for error in done.json["errors"]] == ["source_changed"]
    assert copy.read_bytes() == b"something else"


def test_bytes_that_differ_are_never_linked_whatever_the_library_says(
    program: Program, folder: Path
) -> None:
    kept, copy = _pair(folder)
    status = copy.stat()
    with copy.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"\xff")
    os.utime(copy, ns=(OLD, OLD))
    assert copy.stat().st_ino == status.st_ino
    done = program(*LINK)
    assert "has not the bytes of" in done.json["errors"][0]["error"]
    assert not copy.samefile(kept)
    assert not _journal().exists()


def test_a_file_that_changes_while_it_is_linked_is_left_alone(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, copy = _pair(folder)
    link = file_links.hard_link

    def meanwhile(source: Path, place: Path) -> None:
        link(source, place)
        copy.write_bytes(b"new")

    monkeypatch.setattr(file_links, "hard_link", meanwhile)
    done = program(*LINK)
    assert "while it was being linked" in done.json["errors"][0]["error"]
    assert copy.read_bytes() == b"new"
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name]
    assert kept.stat().st_nlink == 1


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_other_permissions_are_not_given_up_silently(program: Program, folder: Path) -> None:
    kept, copy = _pair(folder)
    copy.chmod(0o600)
    kept.chmod(0o644)
    done = program(*LINK)
    assert "other permissions" in done.json["errors"][0]["error"]
    assert done.json["errors"][0]["hint"] == "--as reflink keeps them apart"
    assert not copy.samefile(kept)


@pytest.mark.parametrize("cause", [errno.EXDEV, errno.EROFS, errno.EPERM, errno.EMLINK])
def test_what_the_file_system_refuses_is_one_line(
    cause: int, program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(cause, os.strerror(cause))

    monkeypatch.setattr(os, "link", refused)
    done = program("duplicates", "--link")
    _, copy = _pair(folder)
    assert (done.code, len(done.errors)) == (1, 1)
    assert done.errors[0] == f"error: {copy}: cannot become a hard link: {os.strerror(cause)}"


def test_symbolic_links_are_nobodys_copies(program: Program, folder: Path) -> None:
    kept, copy = _pair(folder)
    copy.unlink()
    copy.symlink_to(kept)
    program("scan", folder)
    assert program(*LINK).json["linked"] == []
    assert copy.is_symlink()


def test_a_symbolic_link_to_a_linked_copy_is_known_to_lead_elsewhere(
    program: Program, folder: Path
) -> None:
    _, copy = _pair(folder)
    (folder / "z.safetensors").symlink_to(copy)
    program("scan", folder)
    for call in (LINK, UNDO, LINK):
        assert program(*call).code == 0
        assert _rescan(program)["bytes_hashed"] == 0
    assert program("duplicates", "--json").json["reclaimable"] == 0


def test_only_equal_files_can_be_linked(program: Program, folder: Path) -> None:
    assert program("duplicates", "--link", "--by", "weights").code == 2
    assert program("duplicates", "--link", "--undo").code == 2
    assert program("duplicates", "--dry-run").code == 2


def test_a_system_without_reflinks_says_so(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_reflinks() -> int:
        raise file_links.WriteFailed("this system has no reflinks", hint="use --as hardlink")

    monkeypatch.setattr(file_links, "_clone_request", no_reflinks)
    done = program(*LINK, "--as", "reflink")
    (error,) = done.json["errors"]
    assert (error["error"], error["hint"]) == ("this system has no reflinks", "use --as hardlink")


@pytest.fixture
def cloning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that shares blocks: to a user a clone is a copy."""
    monkeypatch.setattr(file_links, "clone", shutil.copyfile)


@pytest.mark.skipif(sys.platform != "linux", reason="reflinks are made on Linux")
def test_a_file_system_without_reflinks_says_so(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr("fcntl.ioctl", refuse)
    done = program(*LINK, "--as", "reflink")
    error = done.json["errors"][0]
    assert (error["error"], error["hint"]) == (
        "its file system has no reflinks",
        "use --as hardlink",
    )


@pytest.mark.usefixtures("cloning")
def test_a_reflink_keeps_time_and_permissions_and_stays_a_file_of_its_own(
    program: Program, folder: Path
) -> None:
    kept, copy = _pair(folder)
    copy.chmod(0o600)
    kept.chmod(0o644)
    program("scan", folder)
    inode = copy.stat().st_ino
    assert len(program(*LINK, "--as", "reflink").json["linked"]) == 1
    assert not copy.samefile(kept)
    assert copy.stat().st_ino != inode
    assert (copy.stat().st_mtime_ns, copy.stat().st_mode & 0o777) == (OLD, 0o600)
    assert _rescan(program)["bytes_hashed"] == 0
    assert program(*LINK, "--as", "reflink").json["linked"] == [], "shared already"
    assert len(program(*UNDO).json["restored"]) == 1


def test_the_kernel_is_asked_for_shared_blocks_or_says_why_not(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    source.write_bytes(b"some bytes")
    try:
        file_links.clone(source, place)
    except file_links.WriteFailed:
        assert not place.exists()
    else:
        assert place.read_bytes() == b"some bytes"


def test_a_file_edited_through_its_link_keeps_the_edit(program: Program, folder: Path) -> None:
    kept, copy = _pair(folder)
    program(*LINK)
    kept.write_bytes(b"edited in place")
    assert len(program(*UNDO).json["restored"]) == 1
    assert copy.read_bytes() == b"edited in place"
    assert not copy.samefile(kept)
    assert copy.stat().st_mtime_ns != OLD


def test_files_that_are_no_links_any_more_are_forgotten(program: Program, folder: Path) -> None:
    _, copy = _pair(folder)
    program(*LINK)
    copy.unlink()
    copy.write_bytes(b"a new file")
    assert program(*UNDO).json == {"restored": [], "errors": []}
    assert copy.read_bytes() == b"a new file"
    assert not _journal().exists()


def test_what_cannot_be_restored_stays_in_the_journal(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, copy = _pair(folder)
    program(*LINK)

    def full(*_: object) -> None:
        raise file_links.WriteFailed("no room", path=copy)

    with monkeypatch.context() as patch:
        patch.setattr(file_links, "copy", full)
        assert program(*UNDO).code == 1
        assert copy.samefile(kept)
    assert len(program(*UNDO).json["restored"]) == 1


@pytest.mark.parametrize("tail", [b'{"asset": 1, "pa', b"\xff\xfe", b"null\n", b"[" * 9999])
def test_a_torn_line_of_the_journal_hides_no_other(
    tail: bytes, program: Program, folder: Path
) -> None:
    program(*LINK)
    _, copy = _pair(folder)
    with _journal().open("ab") as stream:
        stream.write(tail)
    shutil.copyfile(copy, folder / "third.safetensors")
    program("scan", folder)
    program(*LINK)
    assert len(program(*UNDO).json["restored"]) == 2


@pytest.mark.parametrize("option", ["--link", "--undo"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "step",
    [
        "assetmgr.operations.duplicates.journal:Journal.append",
        "assetmgr.operations.file_links:hard_link",
        "assetmgr.operations.file_links:copy",
        "pathlib:Path.replace",
        "assetmgr.operations.duplicates.links:_tell_library",
        "assetmgr.operations.duplicates.journal:Journal.rewrite",
    ],
)
def test_a_kill_at_any_step_loses_nothing_and_can_be_undone(
    step: str,
    after: bool,
    option: str,
    program: Program,
    dying: Dying,
    folder: Path,
) -> None:
    kept, copy = _pair(folder)
    content = kept.read_bytes()
    if option == "--undo":
        program(*LINK)
    assert dying.run(step, ["duplicates", option], after=after) in {0, KILLED}
    assert kept.read_bytes() == copy.read_bytes() == content
    assert program(*UNDO).code == 0
    assert kept.read_bytes() == copy.read_bytes() == content
    assert not kept.samefile(copy)
    assert copy.stat().st_mtime_ns == OLD
    assert not _journal().exists()
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name]
    assert _rescan(program)["errors"] == []
