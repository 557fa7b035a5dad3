"""Hashes that others name for a file: candidates until it was read, then true or contradicted."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time

import pytest
from small_models import lora_bytes, write_lora

from converters.errors import AssetNotFound
from converters.progress import Progress
from registry.records import Claim
from registry.scanning.scanner import scan

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
    assert [row.name for row in library.search("is:contradicted").rows] == ["fox"]


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


class BeforeHashing(Progress):
    """Looks at the library when the headers of all files were read and none was hashed."""

    def __init__(self, look):
        self.look = look

    def stage(self, title, total=None, unit="B"):
        if title == "hashing":
            self.look()


SIDECARS = {
    "civitai-info": (".civitai.info", lambda hashes: {"id": 1, "files": [{"hashes": hashes}]}),
    "stability-matrix": (".cm-info.json", lambda hashes: {"ModelId": 1, "Hashes": hashes}),
    "lora-manager": (".metadata.json", lambda hashes: {"sha256": hashes["SHA256"]}),
}


def claim_beside(models, owner, digest, name="fox"):
    """A sidecar of a program that says which SHA-256 a model has."""
    ending, document = SIDECARS[owner]
    (models / f"{name}{ending}").write_text(json.dumps(document({"SHA256": digest.upper()})))


def not_small(monkeypatch):
    """Nothing is hashed while other files are still looked into."""
    import registry.scanning.side_by_side

    monkeypatch.setattr(registry.scanning.side_by_side, "SMALL_BYTES", 0)


@pytest.mark.parametrize("owner", SIDECARS)
def test_a_sidecar_names_a_candidate_before_the_file_is_hashed(library, models, owner, monkeypatch):
    not_small(monkeypatch)
    write_lora(models / "fox.safetensors")
    digest = hashlib.sha256(lora_bytes()).hexdigest()
    claim_beside(models, owner, digest)
    seen = []

    def look():
        asset = library.find(digest[:8])
        seen.append((asset.hashes["sha256"], asset.claims, asset.agrees(asset.claims[0])))
        assert [row.name for row in library.search(f"hash:{digest[:8]}").rows] == ["fox"]

    report = scan(library, [models], BeforeHashing(look))
    claim = Claim("sha256", digest, owner)
    assert seen == [(None, (claim,), None)]
    asset = library.find(digest)
    assert (asset.claims, asset.agrees(claim)) == ((claim,), True)
    assert report.contradicted == ()
    assert library.search("is:contradicted").total == 0


def test_a_claim_that_the_bytes_do_not_bear_out_is_reported_once_and_believed_no_more(
    library, models, monkeypatch
):
    not_small(monkeypatch)
    write_lora(models / "fox.safetensors")
    claim_beside(models, "civitai-info", "ab" * 32)
    looked = BeforeHashing(lambda: library.find("abababab"))
    (said,) = scan(library, [models], looked).contradicted
    digest = hashlib.sha256(lora_bytes()).hexdigest()
    assert said.path == str(models / "fox.safetensors")
    assert (said.hash, said.claimed, said.found) == ("sha256", "ab" * 32, digest)
    assert said.origin == "civitai-info"
    with pytest.raises(AssetNotFound):
        library.find("abababab")
    assert [row.name for row in library.search("is:contradicted").rows] == ["fox"]
    assert scan(library).contradicted == ()


def test_a_sidecar_that_changes_or_goes_changes_what_is_claimed(library, models):
    write_lora(models / "fox.safetensors")
    scan(library, [models])
    claim_beside(models, "civitai-info", "ab" * 32)
    (said,) = scan(library).contradicted
    assert said.claimed == "ab" * 32
    claim_beside(models, "civitai-info", hashlib.sha256(lora_bytes()).hexdigest())
    os.utime(models / "fox.civitai.info", (time.time() + 9, time.time() + 9))
    assert scan(library).contradicted == ()
    assert library.search("is:contradicted").total == 0
    assert len(library.find("fox").claims) == 1
    (models / "fox.civitai.info").unlink()
    scan(library)
    assert library.find("fox").claims == ()


def test_who_claims_the_same_is_told_each(library, models):
    write_lora(models / "fox.safetensors")
    digest = hashlib.sha256(lora_bytes()).hexdigest()
    for owner in SIDECARS:
        claim_beside(models, owner, digest)
    scan(library, [models])
    assert {claim.origin for claim in library.find("fox").claims} == set(SIDECARS)


def test_claims_go_along_when_two_assets_turn_out_to_be_one(library, models, monkeypatch):
    not_small(monkeypatch)
    write_lora(models / "fox.safetensors")
    scan(library, [models])
    write_lora(models / "copy.safetensors")
    claim_beside(models, "civitai-info", "ab" * 32, "copy")
    (said,) = scan(library).contradicted
    (asset,) = library.assets()
    assert (said.asset, said.claimed) == (asset.id, "ab" * 32)
    assert asset.claims == (Claim("sha256", "ab" * 32, "civitai-info"),)
