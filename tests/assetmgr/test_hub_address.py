"""How a repository is named: by itself, or by the address of a page that was copied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from hypothesis import example, given
from hypothesis import strategies as st

from assetmgr.operations.civitai.find import parse_reference
from assetmgr.operations.hub.address import Named, parse_named
from assetmgr.sources.hub.web import check_repo
from converters.errors import BadValue


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("org/gems", Named("org/gems")),
        ("org/gems@v2", Named("org/gems", "v2")),
        ("https://huggingface.co/org/gems", Named("org/gems")),
        ("https://hf.co/org/gems/", Named("org/gems")),
        ("https://huggingface.co/org/gems/tree/main", Named("org/gems", "main")),
        ("https://huggingface.co/org/gems/tree/v2/unet", Named("org/gems", "v2", "unet")),
        (
            "https://huggingface.co/org/gems/blob/refs%2Fpr%2F1/a/b%20c.bin",
            Named("org/gems", "refs/pr/1", "a/b c.bin"),
        ),
        (
            "https://huggingface.co/org/gems/resolve/main/x.bin?download=true",
            Named("org/gems", "main", "x.bin"),
        ),
        ("http://localhost:8090/org/gems", Named("org/gems")),
    ],
)
def test_an_address_names_repository_revision_and_file(
    text: str, meant: Named, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:8090")
    assert parse_named(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "https://evil.example/org/gems",
        "https://huggingface.co@evil.example/org/gems",
        "https://huggingface.co/org",
        "https://huggingface.co/datasets/org/gems",
        "https://huggingface.co/org/gems/tree",
    ],
)
def test_an_address_of_something_else_is_refused(text: str) -> None:
    with pytest.raises(BadValue):
        parse_named(text)


@pytest.mark.parametrize(
    "host", ["tensor.art", "civitai.com.evil.example", "evil.example/civitai.com"]
)
def test_numbers_of_another_site_are_none_of_civitai(host: str) -> None:
    with pytest.raises(BadValue):
        parse_reference(f"https://{host}/models/70")


@given(st.from_regex(r"[A-Za-z0-9_./\-é]{0,20}", fullmatch=True) | st.text(max_size=10))
@example("org/gems")
@example("gems.git")
@example("a" * 96 + "/" + "b" * 96)
@example("a" * 97)
@example("org/ge--ms")
@example("a/b/c")
def test_names_of_repositories_are_those_of_huggingface_hub(text: str) -> None:
    def holds(check: Callable[[str], None], refusal: type[Exception]) -> bool:
        try:
            check(text)
        except refusal:
            return False
        return True

    assert holds(check_repo, BadValue) == holds(validate_repo_id, HFValidationError)
