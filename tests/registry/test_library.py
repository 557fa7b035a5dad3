"""What the library answers, and what it keeps of an asset."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_models import scanned, write_lora

from converters.errors import AmbiguousAsset, AssetNotFound, BadValue
from converters.identify import Component
from registry.records import ParentFile, Preview, PreviewCheck, Source, Verification
from registry.scanning.scanner import scan, scan_file

PREVIEW = Preview(
    path="/p/1.png",
    thumbnail="/p/1.webp",
    seed=2**62,
    prompt="a red fox",
    verdict="ok",
    checks=(
        PreviewCheck("finite", True, None, None, "no NaN"),
        PreviewCheck("flat", True, 9.5, 1.0, ""),
    ),
    parameters={"steps": 20, "size": "64x64", "weight": None},
)


class TestFinding:
    def test_by_path_number_hash_and_name(self, library, models):
        asset = scan_file(library, write_lora(models / "fox one.safetensors"))
        hashes = asset.hashes
        references = [
            str(models / "fox one.safetensors"),
            f"#{asset.id}",
            "fox one",
            hashes["blake3"],
            hashes["sha256"][:6],
            hashes["sha256"].upper(),
            hashes["autov2"],
            hashes["autov3"][:12],
            hashes["crc32"],
        ]
        assert {library.find(reference).id for reference in references} == {asset.id}

    def test_by_contents_that_threads_ask_for_at_once(self, library):
        assets = [library.record_file(scanned(number, f"/m/{number}.pt")) for number in range(9)]
        wanted = [asset.hashes["sha256"] for asset in assets]
        with ThreadPoolExecutor(9) as pool:
            found = list(pool.map(library.with_content, [*wanted, "0" * 64]))
        assert [asset and asset.id for asset in found] == [*(a.id for a in assets), None]

    def test_by_the_names_of_all_its_files(self, library, models):
        first = scan_file(library, write_lora(models / "fox.safetensors", 1))
        scan_file(library, write_lora(models / "copies" / "fox 100%.safetensors", 1))
        other = scan_file(library, write_lora(models / "fox 100% more.pt", 2))
        wolf = scan_file(library, write_lora(models / "wolf.safetensors", 3))
        scan_file(library, write_lora(models / "a" / "twin.safetensors", 2))
        scan_file(library, write_lora(models / "b" / "twin.safetensors", 3))
        names = ("fox 100%", "fox 100%.safetensors", "fox 100% more.pt", "wolf.safetensors")
        found = [library.find(name).id for name in names]
        assert found == [first.id, first.id, other.id, wolf.id]
        with pytest.raises(AmbiguousAsset, match="names 2 assets"):
            library.find("twin")

    def test_by_a_relative_path(self, library, models, monkeypatch):
        asset = scan_file(library, write_lora(models / "a.safetensors"))
        monkeypatch.chdir(models)
        assert library.find("a.safetensors").id == asset.id
        assert library.find(str(Path("..", "models", "a.safetensors"))).id == asset.id

    @pytest.mark.parametrize(
        "reference",
        [
            "",
            "#1",
            "#99999999999999999999",
            "a1b2c3",
            "nothing",
            "/no/such",
            "a\0b",
            "\udce9",
            "FOX",
        ],
    )
    def test_what_nothing_answers_to_is_not_found(self, library, reference):
        library.record_file(scanned(77, "/m/fox.pt"))
        library.tag([1], ["nothing"])
        if reference == "#1":
            reference = "#2"
        with pytest.raises(AssetNotFound):
            library.find(reference)

    def test_a_hash_prefix_needs_six_digits(self, library):
        asset = library.record_file(scanned(1))
        assert library.find("a00000").id == asset.id
        with pytest.raises(AssetNotFound):
            library.find("a0000")

    def test_an_ambiguous_reference_lists_the_candidates(self, library):
        library.record_file(scanned(1, "/a/same.pt"))
        library.record_file(scanned(2, "/b/same.pt", kind="vae"))
        with pytest.raises(AmbiguousAsset, match=r"#1 same \(lora\), #2 same \(vae\)"):
            library.find("same")
        with pytest.raises(AmbiguousAsset):
            library.find("a00000")

    def test_the_first_way_of_naming_that_finds_something_counts(self, library, models):
        named_like_a_hash = library.record_file(scanned(1, "/m/b00000.pt"))
        hashed = library.find("b00000")
        assert hashed.id == named_like_a_hash.id
        library.record_file(scanned(2, "/m/#1.pt"))
        assert library.find("#1").id == 1

    def test_a_number_without_an_asset_is_an_error_everywhere(self, library):
        for call in (
            lambda: library.get(5),
            lambda: library.tag([5], ["a"]),
            lambda: library.note(5, "a"),
            lambda: library.rate(5, 1),
            lambda: library.record_source(5, Source("hub")),
            lambda: library.record_preview(5, PREVIEW),
            lambda: library.record_derived(5, [], "convert", {}),
            lambda: library.record_verification(5, integrity="ok"),
        ):
            with pytest.raises(AssetNotFound, match="no asset #5"):
                call()


class TestUserData:
    def test_tags_are_kept_once_in_lower_case_and_in_order(self, library):
        library.record_file(scanned(1))
        library.record_file(scanned(2))
        library.tag([1, 2], ["Zebra", "ant", "ANT", "  two words "])
        library.tag([1], [], ["zebra"])
        assert library.get(1).tags == ("ant", "two words")
        assert library.get(2).tags == ("ant", "two words", "zebra")
        assert library.search().rows[0].tags == ("ant", "two words")

    def test_an_empty_tag_is_refused_and_nothing_is_tagged(self, library):
        library.record_file(scanned(1))
        with pytest.raises(BadValue):
            library.tag([1], ["good", " "])
        assert library.get(1).tags == ()

    def test_a_tag_for_an_unknown_asset_tags_none(self, library):
        library.record_file(scanned(1))
        with pytest.raises(AssetNotFound):
            library.tag([1, 9], ["a"])
        assert library.get(1).tags == ()

    def test_notes_and_ratings_are_kept_and_removed(self, library):
        library.record_file(scanned(1))
        library.note(1, "for the zoo\n")
        library.rate(1, 0)
        assert (library.get(1).note, library.get(1).rating) == ("for the zoo", 0)
        library.note(1, "")
        library.rate(1, None)
        assert (library.get(1).note, library.get(1).rating) == (None, None)

    @pytest.mark.parametrize("rating", [-1, 6])
    def test_a_rating_is_from_0_to_5(self, library, rating):
        library.record_file(scanned(1))
        with pytest.raises(BadValue):
            library.rate(1, rating)

    def test_recording_the_content_again_keeps_user_data_and_learns_identity(self, library):
        library.record_file(scanned(1, kind="unknown", problems=("not understood",)))
        library.tag([1], ["mine"])
        library.note(1, "keep")
        again = library.record_file(scanned(1, "/m/copy.pt", kind="lora"))
        assert (again.id, again.kind, again.problems) == (1, "lora", ())
        assert (again.tags, again.note, again.name) == (("mine",), "keep", "1")
        assert library.search("mine keep").total == 1

    def test_times_are_in_utc(self, library):
        before = datetime.now(UTC) - timedelta(seconds=1)
        library.record_file(scanned(1))
        library.rate(1, 3)
        asset = library.get(1)
        assert before < asset.added <= asset.updated < datetime.now(UTC) + timedelta(seconds=1)


class TestLineage:
    def test_a_result_names_its_parents(self, library):
        parent, child = library.record_file(scanned(1)), library.record_file(scanned(2))
        sha256 = parent.hashes["sha256"]
        parents = [ParentFile("1", sha256), ParentFile("elsewhere.ckpt", "f" * 64)]
        library.record_derived(child.id, parents, "merge", {"weights": [1.0, 0.5]})
        known, unknown = library.get(child.id).derived_from
        assert (known.asset, known.parent_sha256, known.name) == (1, sha256, "1")
        assert (known.operation, known.parameters) == ("merge", {"weights": [1.0, 0.5]})
        assert (unknown.asset, unknown.name) == (None, "elsewhere.ckpt")

    def test_the_tree_goes_back_over_all_generations_and_on_to_the_next(self, library):
        hashes = [library.record_file(scanned(number)).hashes["sha256"] for number in range(1, 6)]

        def made(child: int, operation: str, *parents: int) -> None:
            known = [ParentFile(str(parent), hashes[parent - 1]) for parent in parents]
            library.record_derived(child, known, operation, {})

        made(3, "merge", 1, 2)
        made(4, "convert", 3)
        made(5, "extract", 4)
        tree = library.lineage(4)
        (merged,) = tree.parents
        assert (merged.asset, merged.operation) == (3, "convert")
        assert [(one.asset, one.operation) for one in merged.parents] == [
            (1, "merge"),
            (2, "merge"),
        ]
        assert [(child.asset, child.operation) for child in tree.children] == [(5, "extract")]
        assert library.lineage(1).parents == ()

    def test_a_tree_that_bites_its_own_tail_ends(self, library):
        one, two = (library.record_file(scanned(number)).hashes["sha256"] for number in (1, 2))
        library.record_derived(1, [ParentFile("2", two)], "convert", {})
        library.record_derived(2, [ParentFile("1", one)], "convert", {})
        (parent,) = library.lineage(1).parents
        assert [again.asset for again in parent.parents] == [1]
        assert parent.parents[0].parents == ()

    def test_a_parent_recorded_later_is_linked(self, library):
        child = library.record_file(scanned(2))
        sha256 = scanned(1).hashes.sha256
        library.record_derived(child.id, [ParentFile("old.ckpt", sha256)], "convert", {})
        parent = library.record_file(scanned(1))
        assert library.get(child.id).derived_from[0].asset == parent.id

    def test_the_same_said_twice_is_said_once(self, library):
        library.record_file(scanned(1))
        for _ in range(2):
            library.record_derived(1, [ParentFile("a", None)], "convert", {"dtype": "fp16"})
            library.record_source(1, Source("huggingface", "o/r", "abc", "a.pt"))
        library.record_derived(1, [ParentFile("a", None)], "convert", {"dtype": "bf16"})
        assert len(library.get(1).derived_from) == 2
        assert library.get(1).sources == (Source("huggingface", "o/r", "abc", "a.pt"),)

    def test_the_version_that_made_it_is_told_and_another_one_says_nothing_new(self, library):
        library.record_file(scanned(1))
        for version in ("1.0", "2.0"):
            library.record_derived(1, [ParentFile("a", "f" * 64)], "convert", {}, version)
        (made,) = library.get(1).derived_from
        assert made.version == "1.0"

    def test_nothing_is_its_own_parent(self, library):
        asset = library.record_file(scanned(1))
        library.record_derived(1, [ParentFile("1", asset.hashes["sha256"])], "convert", {})
        assert library.get(1).derived_from == ()


class TestPreviews:
    def test_a_preview_comes_back_as_it_was(self, library):
        library.record_file(scanned(1))
        library.record_preview(1, PREVIEW)
        assert library.get(1).preview == PREVIEW
        assert library.get(1).verification == Verification(render="ok")
        (row,) = library.search().rows
        assert (row.verdict, row.thumbnail) == ("ok", "/p/1.webp")

    def test_a_newer_preview_replaces_the_older(self, library):
        library.record_file(scanned(1))
        library.record_preview(1, PREVIEW)
        library.record_preview(1, Preview(None, None, 1, "", "failed"))
        assert library.get(1).preview == Preview(None, None, 1, "", "failed")

    def test_checks_made_at_different_times_add_up(self, library):
        library.record_file(scanned(1))
        library.record_verification(1, integrity="ok")
        library.record_verification(1, structure="failed")
        assert library.get(1).verification == Verification("ok", "failed", None)


class TestSearching:
    def test_rows_come_in_the_order_asked_for(self, library):
        for number, name in enumerate(["b", "A", "c"], 1):
            library.record_file(scanned(number, f"/m/{name}.pt"))
        library.rate(1, 5)
        library.record_preview(3, PREVIEW)

        def names(sort: str) -> str:
            return "".join(row.name for row in library.search(sort=sort).rows)

        assert names("name") == "Abc"
        assert names("-name") == "cbA"
        assert names("size") == "bAc"
        assert names("-size") == "cAb"
        assert names("id") == names("added") == "bAc"
        assert names("rating") == names("-rating") == "bAc"
        assert names("verdict") == names("-verdict") == "cAb"

    def test_an_unknown_order_names_the_known_ones(self, library):
        with pytest.raises(BadValue, match="name, size, added"):
            library.search(sort="colour")

    def test_pages_are_parts_of_the_whole(self, library):
        for number in range(7):
            library.record_file(scanned(number))
        whole = library.search(sort="-size")
        assert whole.total == 7
        pages = [library.search(sort="-size", limit=3, offset=start) for start in (0, 3, 6, 9)]
        assert [len(page.rows) for page in pages] == [3, 3, 1, 0]
        assert all(page.total == 7 for page in pages)
        assert tuple(row for page in pages for row in page.rows) == whole.rows
        assert [a.id for a in library.assets(sort="verdict", limit=2, offset=1)] == [
            row.id for row in whole.rows[::-1][1:3]
        ]

    def test_kinds_are_counted(self, library):
        assert library.kinds() == {}
        for number, kind in enumerate(["lora", "lora", "vae"]):
            library.record_file(scanned(number, kind=kind))
        assert library.kinds() == {"lora": 2, "vae": 1}

    def test_more_assets_than_one_statement_takes(self, library):
        library.record_files([scanned(number) for number in range(503)])
        library.tag([503], ["last"])
        assert len(library.assets()) == library.search().total == 503
        assert library.get(503).tags == ("last",)
        assert library.search(sort="id").rows[-1].tags == ("last",)


def parts(parameters: int) -> tuple[Component, ...]:
    return tuple(Component(name, 1, parameters) for name in ("unet", "vae", "text_encoder"))


class TestBases:
    def test_only_present_complete_checkpoints_of_the_family_serve(self, library, models):
        whole = {"kind": "checkpoint", "components": parts(10)}
        file = scan_file(library, write_lora(models / "a.safetensors"))
        library.record_file(scanned(1, **whole))
        library.record_file(scanned(2, kind="checkpoint", components=parts(1)[:2]))
        library.record_file(scanned(3, **whole, problems=("unet is incomplete",)))
        library.record_file(scanned(4, **(whole | {"base": "sdxl"})))
        library.record_file(scanned(5, components=parts(1)))
        assert [asset.name for asset in library.bases()] == ["1"]
        assert [asset.name for asset in library.bases("sdxl")] == ["4"]
        library.settle([], [file.id + 1])
        assert library.bases("sd-1") == ()

    def test_the_most_complete_comes_first(self, library):
        def add(number: int, parameters: int, variant: str | None = None) -> None:
            library.record_file(
                scanned(number, kind="checkpoint", components=parts(parameters), variant=variant)
            )

        add(1, 10)
        add(2, 20)
        add(3, 30, "inpaint")
        add(4, 20)
        add(5, 40)
        library.record_derived(2, [ParentFile("4", None)], "merge", {})
        library.record_preview(5, Preview(None, None, 1, "", "failed"))
        assert [asset.name for asset in library.bases()] == ["4", "2", "1", "5", "3"]


def test_roots_are_listed_by_path(library, tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        assert library.add_root(tmp_path / name) == str(tmp_path / name)
    assert library.roots() == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert scan(library).roots == library.roots()
