"""Hashes that others name for a file."""

from __future__ import annotations

import hashlib
import sys

import pytest
from small_models import lora_bytes, write_lora

from registry.records import Claim
from registry.scanner import scan

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n"


def cached(models, digest):
    """A file in a Hugging Face cache, whose blob has this name."""
    blob = write_lora(models / "models--o--r" / "blobs" / digest)
    link = models / "models--o--r" / "snapshots" / "abc" / "fox.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    return link


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_cache_names_the_content_of_its_blobs(library, models):
    digest = hashlib.sha256(lora_bytes()).hexdigest()
    cached(models, digest)
    scan(library, [models])
    asset = library.find("fox")
    assert asset.claims == (Claim("sha256", digest, "huggingface-cache"),)
    assert asset.hashes["sha256"] == digest


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_damaged_blob_is_no_less_claimed_and_not_believed(library, models):
    cached(models, "0" * 64)
    scan(library, [models])
    assert library.find("fox").claims[0].digest == "0" * 64
    assert library.find("fox").hashes["sha256"] != "0" * 64
    assert library.search("hash:000000000000").total == 0


def test_a_pointer_is_found_by_the_hash_of_what_it_stands_for(library, models):
    digest = hashlib.sha256(lora_bytes()).hexdigest()
    (models / "pointer.safetensors").write_text(POINTER.format(digest))
    scan(library, [models])
    asset = library.find(digest)
    assert (asset.name, asset.kind) == ("pointer", "unknown")
    assert asset.claims == (Claim("sha256", digest, "lfs-pointer"),)
    write_lora(models / "real.safetensors")
    scan(library)
    assert library.find(digest).name == "real"


def test_a_model_claims_nothing_by_itself(library, models):
    write_lora(models / "fox.safetensors")
    scan(library, [models])
    assert library.find("fox").claims == ()
