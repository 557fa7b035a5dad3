"""The log of the program's own faults: it tells where, holds no secrets, and stays small."""

from __future__ import annotations

from pathlib import Path

import pytest

from assetmgr import fault_log
from assetmgr.fault_log import note_fault, without_secrets


def fault(message: str) -> Exception:
    """One that was raised."""
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError(message)
    return raised.value


def test_a_fault_is_told_with_its_place_after_those_before_it(tmp_path: Path) -> None:
    file = tmp_path / "state" / "faults.log"
    assert note_fault(fault("first \udcff"), file) == file
    note_fault(fault("second"), file)
    text = file.read_text("utf-8")
    assert text.index("RuntimeError: first \\udcff") < text.index("RuntimeError: second")
    assert text.count("test_fault_log.py") == 2
    assert text.count("assetmgr 0") == 2


@pytest.mark.parametrize(
    "told",
    [
        "GET https://civitai.com/api?token=S3CRET&x=1",
        "Authorization: Bearer S3CRET",
        "{'authorization': 'Bearer S3CRET'}",
        "cannot reach postgresql://me:S3CRET@host/db",
        "CIVITAI_API_KEY=S3CRET",
        'api_key = "S3CRET"',
        "401 for hf_S3CRETs3cretS3CRET",
    ],
)
def test_what_looks_like_a_token_is_hidden(told: str) -> None:
    assert "S3CRET" not in without_secrets(told)
    assert "[hidden]" in without_secrets(told)


def test_all_else_stays_as_it_is() -> None:
    told = 'File "/home/me/token.py", line 3: a tokenizer of 77 tokens, see https://x.org/a:b'
    assert without_secrets(told) == told


def test_a_file_that_has_grown_is_kept_aside_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_log, "MOST_BYTES", 10)
    file = tmp_path / "faults.log"
    for word in ("one", "two", "three"):
        note_fault(fault(word), file)
    assert "three" in file.read_text("utf-8")
    assert "two" in (tmp_path / "faults.log.1").read_text("utf-8")
    assert len(list(tmp_path.iterdir())) == 2


def test_where_nothing_can_be_written_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert note_fault(fault("x"), tmp_path / "file" / "faults.log") is None
