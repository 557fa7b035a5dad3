"""`civitai search`, `info` and `lookup` through the real client, against a server on loopback."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli_models import alone
from helpers.civitai_server import CivitaiServer
from helpers.loopback import Instead

from assetmgr.operations.civitai.find import Reference, parse_reference
from assetmgr.sources.civitai.site import connect
from assetmgr.sources.patience import retry_after
from converters.errors import BadValue

if TYPE_CHECKING:
    from conftest import Done, Models

    Program = Callable[..., Done]

HOSTILE = "\x1b]0;owned\x07\u202egnp.exe"


def test_a_search_follows_the_cursor_until_it_has_enough(
    site: CivitaiServer, program: Program
) -> None:
    for number in range(1, 8):
        site.add(number, {"a.safetensors": bytes(8)})
    found = program("civitai", "search", "Model", "--limit", "5", "--json").json
    assert [model["id"] for model in found["models"]] == ["1001", "1002", "1003", "1004", "1005"]
    assert len(site.requests) == 3
    assert all("page=" not in line for line in site.requests)


def test_a_search_asks_in_the_words_of_the_site(site: CivitaiServer, program: Program) -> None:
    arguments = ("--kind", "lora", "--base", "sd-1", "--sort", "downloads")
    done = program("civitai", "search", "line art", *arguments)
    assert (done.code, done.out) == (0, "0 found\n")
    (request,) = site.requests
    for part in ("types=LORA&types=LoCon&types=DoRA", "baseModels=SD+1.4", "sort=Most+Downloaded"):
        assert part in request.replace("%20", "+")
    program("civitai", "search", "x", "--base", "Wan Video")
    assert "baseModels=Wan+Video" in site.requests[-1].replace("%20", "+")


def test_info_tells_versions_files_hashes_words_and_licence(
    site: CivitaiServer, program: Program, models: Models, tmp_path: Path
) -> None:
    content = models.lora.read_bytes()
    program("scan", alone(models.lora, tmp_path).parent)
    site.add(7, {"style.safetensors": content}, trainedWords=["sks style"], model=70)
    site.add(8, {"style2.safetensors": bytes(9)}, model=70)
    found = program("civitai", "info", "70", "--json").json
    assert (found["id"], found["kind"], found["creator"]) == ("70", "lora", "somebody")
    assert found["licence"] == {
        "no_credit": True,
        "commercial": ["Image", "Rent"],
        "derivatives": True,
        "other_licence": False,
    }
    first, second = found["versions"]
    assert (first["id"], first["base"], first["trained_words"]) == ("7", "sd-1", ["sks style"])
    (file,) = first["files"]
    assert (file["bytes"], file["primary"], file["precision"]) == (len(content), True, "fp16")
    assert file["asset"] is not None
    assert second["files"][0]["asset"] is None
    (own,) = program("hash", models.lora, "--json").json
    assert file["hashes"]["sha256"] == own["sha256"]
    assert file["hashes"]["blake3"] == own["blake3"]
    told = program("civitai", "info", "70").out
    assert "have it: #" in told
    assert "same licence only" in told


@pytest.mark.parametrize("reference", ["70@7", "@7", "7", "urn:air:sd1:lora:civitai:70@7"])
def test_info_of_a_version_has_that_version_alone(
    site: CivitaiServer, program: Program, reference: str
) -> None:
    site.add(7, {"a.safetensors": bytes(8)}, model=70)
    site.add(8, {"b.safetensors": bytes(8)}, model=70)
    found = program("civitai", "info", reference, "--json").json
    assert [version["id"] for version in found["versions"]] == ["7"]
    assert (found["id"], found["creator"]) == ("70", "somebody")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("12", Reference(number="12")),
        ("https://civitai.com/models/70/some-name", Reference(model="70")),
        ("https://civitai.com/models/70?modelVersionId=7", Reference("70", "7")),
        ("civitai.red/models/70/x?a=b&modelVersionId=7#c", Reference("70", "7")),
        ("https://civitai.com/api/download/models/7?type=Model", Reference(version="7")),
        ("urn:air:sdxl:lora:civitai:70@7+99", Reference("70", "7")),
    ],
)
def test_a_model_is_named_by_number_address_or_air(text: str, meant: Reference) -> None:
    assert parse_reference(text) == meant


@pytest.mark.parametrize("text", ["", "seven", "7/../8", "-1", "٣", "https://civitai.com/user/x"])
def test_what_names_no_model_is_a_wrong_call(text: str) -> None:
    with pytest.raises(BadValue):
        parse_reference(text)


def test_what_the_site_says_reaches_the_screen_escaped(
    site: CivitaiServer, program: Program
) -> None:
    site.add(7, {f"{HOSTILE}.safetensors": bytes(8)}, name=HOSTILE, trainedWords=[HOSTILE])
    site.models[0]["name"] = HOSTILE
    for arguments in (("search", "o"), ("info", "@7")):
        done = program("civitai", *arguments)
        assert "owned" in done.out
        assert not set("\x1b\x07\u202e") & set(done.out + done.err)


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"{", b"[1]", b'{"id": {}}', b'{"id": null, "files": 3}', b"", b"[" * 100_000],
)
def test_an_answer_that_is_none_is_one_error(
    site: CivitaiServer, program: Program, answer: bytes
) -> None:
    site.instead = [Instead(200, 9, body=answer)]
    done = program("civitai", "info", "@7", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (3, "not_available")
    assert "not that of Civitai" in done.err


def test_odd_values_in_an_answer_are_left_out(site: CivitaiServer, program: Program) -> None:
    site.add(7, {"a.safetensors": bytes(8)}, baseModel=3, trainedWords={"a": 1}, name=None)
    file = site.models[0]["modelVersions"][0]["files"][0]
    file.update(sizeKB="big", hashes={"SHA256": "zz", "CRC32": 5}, metadata=[])
    (version,) = program("civitai", "info", "@7", "--json").json["versions"]
    assert (version["base"], version["trained_words"], version["name"]) == ("unknown", [], None)
    assert version["files"][0]["bytes"] is None
    assert set(version["files"][0]["hashes"].values()) == {None}


@pytest.mark.parametrize("size", [-1, 0, 1e308, float("inf"), float("nan"), 10**400, True, [1]])
def test_a_size_that_no_file_has_is_not_known(
    site: CivitaiServer, program: Program, size: object
) -> None:
    site.add(7, {"a.safetensors": bytes(8)})
    site.models[0]["modelVersions"][0]["files"][0]["sizeKB"] = size
    (version,) = program("civitai", "info", "@7", "--json").json["versions"]
    assert version["files"][0]["bytes"] is None


@pytest.mark.parametrize("number", [HOSTILE, "../../users", "7?token=x", "٣", -7, "9" * 30])
def test_what_is_no_number_is_not_asked_for(
    site: CivitaiServer, program: Program, number: object
) -> None:
    version = {**site.add(7, {"a.safetensors": bytes(8)}), "modelId": number}
    version["files"][0]["id"] = number
    site.instead = [Instead(200, 1, body=json.dumps(version).encode())]
    done = program("civitai", "info", "@7", "--json")
    assert (done.code, done.json["id"], done.json["url"]) == (0, None, None)
    assert done.json["versions"][0]["files"][0]["id"] is None
    assert len(site.requests) == 1


def test_a_file_is_found_by_sha256_in_one_request(
    site: CivitaiServer, program: Program, models: Models
) -> None:
    site.add(7, {"x.safetensors": models.lora.read_bytes()}, trainedWords=["sks"])
    site.add(8, {"y.safetensors": models.checkpoint.read_bytes()})
    done = program("civitai", "lookup", models.lora, models.checkpoint, "--json")
    assert done.code == 0
    assert [item["matches"][0]["version"] for item in done.json] == ["7", "8"]
    match = done.json[0]["matches"][0]
    assert (match["by"], match["ancestor"], match["trained_words"]) == ("sha256", None, ["sks"])
    assert (match["model"], match["model_name"]) == ("1007", "Model 1007")
    assert site.requests == ["POST /api/v1/model-versions/by-hash"]


@pytest.mark.parametrize(
    ("known", "by"), [("BLAKE3", "blake3"), ("AutoV3", "autov3"), ("AutoV2", "autov2")]
)
def test_every_hash_that_names_a_file_is_tried(
    site: CivitaiServer, program: Program, models: Models, known: str, by: str
) -> None:
    version = site.add(7, {"x.safetensors": models.lora.read_bytes()})
    hashes = version["files"][0]["hashes"]
    version["files"][0]["hashes"] = {known: hashes[known]}
    (item,) = program("civitai", "lookup", models.lora, "--json").json
    assert [match["by"] for match in item["matches"]] == [by]


def test_what_is_unknown_there_is_found_through_what_it_was_made_of(
    site: CivitaiServer, program: Program, models: Models, tmp_path: Path
) -> None:
    old = alone(models.pickled, tmp_path)
    site.add(7, {old.name: old.read_bytes()})
    made, again = old.with_name("new.safetensors"), old.with_name("newer.safetensors")
    assert program("convert", old, "-o", made, "--dtype", "fp16").code == 0
    assert program("convert", made, "-o", again, "--prune").code == 0
    program("scan", old.parent)
    (item,) = program("civitai", "lookup", again, "--json").json
    (match,) = item["matches"]
    assert (match["version"], match["by"]) == ("7", "sha256")
    assert match["ancestor"]["name"].startswith(old.stem)
    assert f"through {old.stem}" in program("civitai", "lookup", again).out


def test_a_file_outside_of_the_library_tells_its_parents_itself(
    site: CivitaiServer, program: Program, models: Models
) -> None:
    site.add(7, {"old.ckpt": models.pickled.read_bytes()})
    target = models.folder / "made" / "alone.safetensors"
    try:
        program("convert", models.pickled, "-o", target, "--dtype", "fp16")
        (registered,) = program("list", "path:alone", "--json").json["assets"]
        program("forget", f"#{registered['id']}")
        (item,) = program("civitai", "lookup", target, "--json").json
        assert (item["asset"], item["matches"][0]["version"]) == (None, "7")
    finally:
        target.unlink(missing_ok=True)


def test_unknown_files_and_absent_ones_are_told_apart(
    site: CivitaiServer, program: Program, models: Models
) -> None:
    done = program("civitai", "lookup", models.lora, "absent.safetensors", "--json")
    assert done.code == 1
    assert done.json[0]["matches"] == []
    assert done.json[1]["code"] == "asset_not_found"
    assert "unknown there" in program("civitai", "lookup", models.lora).out


@pytest.mark.parametrize("variable", ["CIVITAI_TOKEN", "CIVITAI_API_KEY", "CIVITAI_API_TOKEN"])
def test_the_token_is_a_header_and_in_no_address_or_log(
    site: CivitaiServer,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, "s3cr3t-key")
    caplog.set_level(logging.DEBUG)
    site.add(7, {"a.safetensors": bytes(8)})
    assert program("civitai", "info", "@7").code == 0
    assert site.tokens == {"service": {"Bearer s3cr3t-key"}, "cdn": set()}
    assert "s3cr3t" not in "".join(site.requests) + caplog.text


def test_an_error_that_echoes_the_token_does_not_show_it(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIVITAI_TOKEN", "s3cr3t-key")
    site.instead = [Instead(401, 9, body=b'{"error":"no such key s3cr3t-key\\u001b[2J"}')]
    done = program("civitai", "info", "@7", "--json")
    assert done.code == 3
    assert "needs a login" in done.err
    assert "s3cr3t" not in done.err + done.out
    assert "\x1b" not in done.err
    assert "s3cr3t" not in repr(connect())


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "naïve"])
def test_what_cannot_be_a_token_is_named_and_not_shown(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("CIVITAI_TOKEN", token)
    done = program("civitai", "info", "@7")
    assert (done.code, len(done.errors)) == (2, 1)
    assert "CIVITAI_TOKEN" in done.err
    assert token not in done.err
    assert site.requests == []


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_site_is_asked_again_when_it_wants(
    site: CivitaiServer, program: Program, pauses: list[float], status: int
) -> None:
    site.add(7, {"a.safetensors": bytes(8)})
    site.instead = [Instead(status, 1, {"Retry-After": "7"})]
    assert program("civitai", "info", "1007").code == 0
    assert sum(pauses) == pytest.approx(7)


def test_a_site_that_stays_busy_is_not_asked_for_ever(
    site: CivitaiServer, program: Program, pauses: list[float]
) -> None:
    site.instead = [Instead(429, 99)]
    done = program("civitai", "info", "@7", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (3, "not_available")
    assert len(site.requests) == 4
    assert (1 + 2 + 4) / 2 <= sum(pauses) <= 1 + 2 + 4


def test_a_wait_of_many_minutes_is_left_to_the_user(
    site: CivitaiServer, program: Program, pauses: list[float]
) -> None:
    site.instead = [Instead(429, 99, {"Retry-After": "3600"})]
    done = program("civitai", "info", "@7")
    assert (done.code, pauses) == (3, [])
    assert "3600 seconds" in done.err


def test_retry_after_is_seconds_or_a_date() -> None:
    assert retry_after("5") == 5
    assert retry_after(None) is None
    assert retry_after("soon") is None
    past = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    assert retry_after(past) == 0
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert retry_after(later) == pytest.approx(30, abs=2)


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9", "nonsense", "http://[", "ftp://x", "http://x y/"]
)
def test_a_site_that_cannot_be_reached_is_one_line(
    site: CivitaiServer, program: Program, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("CIVITAI_ENDPOINT", endpoint)
    done = program("civitai", "search", "x")
    assert done.code == 3, done.err
    assert len(done.errors) == 1


def test_what_is_not_there_is_not_found(site: CivitaiServer, program: Program) -> None:
    done = program("civitai", "info", "@7", "--json")
    assert (done.code, done.json["errors"][0]["code"]) == (1, "not_found")
    assert "Model not found" in done.err


def test_a_file_that_is_no_model_can_be_looked_up(
    site: CivitaiServer, program: Program, tmp_path: Path
) -> None:
    (tmp_path / "workflow.zip").write_bytes(b"anything")
    (tmp_path / "notes").write_bytes(b"something")
    site.add(7, {"workflow.zip": b"anything"})
    done = program(
        "civitai", "lookup", tmp_path / "workflow.zip", tmp_path / "notes", tmp_path, "--json"
    )
    assert done.code == 1
    assert [len(item["matches"]) for item in done.json] == [1, 0, 0]
