"""The query language: what its terms find, and that SQL and Python mean the same by them."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import pytest
from helpers.examples import examples
from hypothesis import given
from hypothesis import strategies as st
from small_models import scanned

import registry.searching.finding
import registry.storage.stopping
from converters.errors import BadValue, Cancelled
from converters.pickles.verdict import SafetyReport, Verdict
from converters.progress import CancellableProgress
from converters.weights import Listing, TensorDigests, Weights
from registry.library import Library
from registry.query import All, parse, parse_order
from registry.query.parser import FILTERS, STATES
from registry.query.terms import PathPart, Words
from registry.records import POINTER, Asset, Claim, Preview
from registry.searching.finding import asset_ids
from registry.sidecars import Sidecar
from registry.tables.sidecar_rows import Found, Key, Stamp

WORDS = (
    "fox",
    "Füchse",
    "STRASSE",
    "straße",
    "50%",
    "a_b",
    "x/y",
    "İx",
    "e\u0301",
    "a:b",
    "50",
    "tails",
)
TAGS = ("anime", "wip", "two words", "ÄÖ", "anime b")


ODD = (
    "say \"hi\" AND 'bye' OR NEAR(a* b) ^c:d -e {f} \\ / 100% a_b",
    "\U0001f600\U0001f601\U0001f602\U0001f600 na\u0308he \ufb01n \ufffd",
    "nul\0nul\nline \ufffe\uffff",
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def new_url(request, tmp_path_factory):
    """Makes addresses of new libraries, in each of the databases."""
    if request.param == "postgresql":
        return request.getfixturevalue("server").new
    return lambda: f"sqlite:///{tmp_path_factory.mktemp('zoo') / 'library.db'}"


@pytest.fixture(scope="module")
def zoo(new_url):
    """Assets of every sort."""
    with Library.open(new_url()) as library:
        _fill(library)
        yield library


@pytest.fixture(scope="module")
def odd(new_url):
    """Assets whose texts mean something to databases, or are hard to compare."""
    with Library.open(new_url()) as library:
        library.record_file(scanned(1, '/odd/%_8 "\U0001f600\n.pt', trigger_words=ODD))
        library.record_file(scanned(2, "/odd/2.pt", metadata={"b": ODD[0][:9], "c": ODD[1][1:]}))
        yield library


def _fill(library: Library) -> None:
    odd = SafetyReport(Verdict.SUSPICIOUS, ("odd.Thing",), ("odd.Thing is used",))
    bad = SafetyReport(Verdict.DANGEROUS, ("os.system",), ("os.system would run commands",))
    library.record_file(scanned(0x12, "/m/Lora/fox.pt", algorithm=("lora", "dora")))
    library.record_file(scanned(2, "/m/Füchse 50%.pt", kind="vae", base="sdxl", algorithm=()))
    library.record_file(scanned(3, "/m/a_b.pt", metadata={"title": "STRASSE x/y", "b": "FOX"}))
    pointer = (Claim("sha256", "1eed" * 16, POINTER),)
    four = scanned(4, "/n/axb.pt", trigger_words=("İx", "e\u0301"), safety=odd)
    library.record_file(replace(four, claims=pointer))
    library.record_file(scanned(5, "/n/5.pt", algorithm=("lokr",), safety=bad, variant="inpaint"))
    library.record_file(scanned(6, "/n/6.pt", metadata={"p": "data:image/png;base64,fox"}))
    library.record_file(scanned(6, "/n/copy of 6.pt", container="torch-zip", layout=None))
    library.tag([1, 3], ["anime"])
    library.tag([3, 4], ["wip", "two words", "ÄÖ"])
    library.tag([2, 4], ["anime b"])
    library.note(5, "straße\nfox a:b")
    library.rate(1, 5)
    library.rate(2, 0)
    library.record_preview(1, Preview("/p", "/t", 1, "", "ok"))
    library.record_preview(2, Preview(None, None, 1, "", "failed"))
    library.settle([], [library.find("5").files[0].id])
    library.set_offline([library.find("#4").files[0].id])
    told = Sidecar("/m/a_b.txt", "description", description="Nine\ntails", tags=("vulpix",))
    library.record_sidecars([Found(Key(3, told.path), Stamp(1, 1), told)])
    true, wrong = {"sha256": library.get(4).hashes["sha256"]}, {"crc32": "dead0001"}
    for number, claims in ((4, true), (5, wrong)):
        told = Sidecar(f"/n/{number}.civitai.info", "civitai-info", claimed_hashes=claims)
        library.record_sidecars([Found(Key(number, told.path), Stamp(1, 1), told)])
    tensors = TensorDigests(Listing({}), ())
    library.record_weights(2, Weights("e" * 64, {"vae": "f00d" * 16}, tensors))
    library.record_weights(6, Weights("f" * 64, {"vae": "f00d" * 16, "unet": "ab" * 32}, tensors))


def ids(library: Library, query: str) -> list[int]:
    return [row.id for row in library.search(query, sort="id").rows]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [1, 2, 3, 4, 5, 6]),
        ("   ", [1, 2, 3, 4, 5, 6]),
        ("fox", [1, 3, 5]),
        ("FOX", [1, 3, 5]),
        ("-fox", [2, 4, 6]),
        ("fox anime", [1, 3]),
        ("füch", [2]),
        ("50%", [2]),
        ("a_b", [3]),
        ("strasse", [3, 5]),
        ('"STRASSE X/Y"', [3]),
        ("vulpix anime", [3]),
        ('"nine tails"', [3]),
        ('"x/y fox"', []),  # a phrase does not run from one text into the next
        ('"a:b"', [5]),
        ("\u00e9", [4]),
        ("tag:anime", [1, 3]),
        ("tag:ANIME -tag:wip", [1]),
        ('tag:"two words"', [3, 4]),
        ("tag:two", []),
        ("x tag:anime", [1, 3]),
        ("x/y tag:anime", [3]),
        ("50% tag:anime", []),
        ('ani tag:"two words"', [3, 4]),
        ("kind:vae", [2]),
        ("KIND:VAE", [2]),
        ("-kind:lora", [2]),
        ("base:sdxl", [2]),
        ("variant:inpaint", [5]),
        ("-variant:inpaint", [1, 2, 3, 4, 6]),
        ("container:torch-zip", [6]),
        ("-layout:kohya", [6]),
        ("algorithm:lora", [1, 3, 4, 6]),
        ("algorithm:lor", []),
        ("algorithm:dora algorithm:lora", [1]),
        ("hash:00000012", [1]),
        ("hash:B0000", [1, 2, 3, 4, 5, 6]),
        ("-hash:00000012", [2, 3, 4, 5, 6]),
        ("hash:F00d", [2, 6]),
        ("hash:abab", [6]),
        ("hash:1eed", [4]),
        ("hash:dead", []),
        ("hash:f", [2, 6]),
        ("hash:e", [2]),
        ("size:>1005", [1, 6]),
        ("size:>=1.005kb", [1, 5, 6]),
        ("size:<1kib", [1, 2, 3, 4, 5, 6]),
        ("size:1002", [2]),
        ("size:>999999999tb", []),
        ("rating:5", [1]),
        ("rating:<3", [2]),
        ("-rating:>=0", [3, 4, 5, 6]),
        ("verdict:ok", [1]),
        ("verdict:failed", [2]),
        ("verdict:none", [3, 4, 5, 6]),
        ("is:missing", [5]),
        ("is:offline", [4]),
        ("is:duplicate", [6]),
        ("is:unsafe", [4, 5]),
        ("is:contradicted", [5]),
        ("safety:dangerous", [5]),
        ("path:/n/", [4, 5, 6]),
        ("path:LORA", [1]),
        ("path:FÜCHSE", [2]),
        ('"fox', [1, 3, 5]),  # half typed
        ('fox "', [1, 3, 5]),
        ("fox -", [1, 3, 5]),
    ],
)
def test_a_query_finds(zoo, query, found):
    assert ids(zoo, query) == found


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("colour:red", "kind, base"),
        ("http://x", "in quotes"),
        ("kind:", "needs a value"),
        ("is:pretty", "duplicate, missing, offline, unsafe, contradicted"),
        ("verdict:maybe", "ok, failed, none"),
        ("size:huge", "size:>1gb"),
        ("rating:6", "rating:5"),
        ("hash:xyz", "hash: xyz"),
    ],
)
def test_what_means_nothing_is_refused_with_what_there_is(zoo, query, told):
    with pytest.raises(BadValue) as refused:
        zoo.search(query)
    assert told in f"{refused.value.cause} {refused.value.hint}"
    assert refused.value.exit_code == 2


def test_every_filter_is_tried_here():
    tried = " ".join(argument for row in TRIED for argument in row)
    assert all(f"{name}:" in tried for name in FILTERS)
    assert all(f"is:{name}" in tried for name in STATES)


VALUES = {
    "kind": ("lora", "vae", "checkpoint"),
    "base": ("sd-1", "sdxl"),
    "variant": ("inpaint", "depth"),
    "container": ("safetensors", "torch-zip"),
    "layout": ("kohya", "ldm"),
    "algorithm": ("lora", "dora", "lokr", "lo"),
    "tag": TAGS,
    "rating": ("0", "5", ">0", ">=5", "<5", "<=0"),
    "hash": ("a", "b0", "00000012", "c000000", "f", "f00df", "e", "d0000005", "1eed", "dead"),
    "size": (">1kb", "<1003", "1005", "<=1kib", ">=1006b"),
    "verdict": ("ok", "failed", "none"),
    "safety": ("safe", "dangerous", "suspicious"),
    "is": tuple(STATES),
    "path": ("/m/", "FOX", "%", "_", "ü", "copy"),
}
TRIED = [(f"{name}:{value}", "") for name, values in VALUES.items() for value in values]


@pytest.fixture(scope="module")
def assets(zoo) -> tuple[Asset, ...]:
    return zoo.assets(sort="id")


def quoted(text: str) -> str:
    return '"' + text.replace('"', "") + '"'


filters = st.sampled_from(sorted(FILTERS)).flatmap(
    lambda name: st.sampled_from(VALUES[name]).map(lambda value: f"{name}:{quoted(value)}")
)
words = st.one_of(st.sampled_from(WORDS), st.text(max_size=4)).map(quoted)
one_term = st.tuples(st.sampled_from(["", "-"]), st.one_of(words, filters)).map("".join)
queries = st.lists(one_term, max_size=4).map(" ".join)


@examples(50)
@given(query=queries)
def test_the_clause_and_the_match_of_a_query_agree(zoo, assets, query):
    terms = parse(query)
    assert ids(zoo, query) == [asset.id for asset in assets if terms.match(asset)]


odd_texts = st.one_of(
    st.text(alphabet="".join(sorted(set("".join(ODD)))), max_size=5),
    st.tuples(st.sampled_from(ODD), st.integers(0, 40), st.integers(1, 12)).map(
        lambda part: part[0][part[1] : part[1] + part[2]]
    ),
)


@examples(80)
@given(text=odd_texts)
def test_a_part_of_a_text_is_found_exactly_where_it_is(odd, text):
    assets = odd.assets(sort="id")
    with odd._database.reading() as connection:
        for term in (Words(text), PathPart(text)):
            found = asset_ids(connection, All((term,)), parse_order("id"), None, 0)
            assert found == [asset.id for asset in assets if term.match(asset)]


@examples(30)
@given(query=queries)
def test_facets_count_what_a_query_finds(zoo, assets, query):
    terms = parse(query)
    found = [asset for asset in assets if terms.match(asset)]
    expected = {
        "kind": Counter(asset.kind for asset in found),
        "base": Counter(asset.base for asset in found),
        "safety": Counter(str(asset.safety.verdict) for asset in found),
        "verdict": Counter(a.preview.verdict if a.preview else "none" for a in found),
        "algorithm": Counter(word for asset in found for word in asset.algorithm),
        "tag": Counter(tag for asset in found for tag in asset.tags),
    }
    assert zoo.facets(query) == expected


@examples(40)
@given(term=one_term)
def test_a_term_and_its_negation_part_the_library(zoo, term):
    other = term.removeprefix("-") if term.startswith("-") else f"-{term}"
    if not parse(term).terms:  # an empty phrase asks nothing, negated or not
        return
    assert sorted(ids(zoo, term) + ids(zoo, other)) == ids(zoo, "")


@examples(30)
@given(
    query=queries,
    sort=st.sampled_from(["name", "-name", "size", "-added", "rating", "-verdict", "-kind", "-id"]),
)
def test_pages_join_to_the_whole(zoo, query, sort):
    whole = zoo.search(query, sort=sort)
    # Whether it is worth going through an index, and looking at one text after the other.
    for many, few in ((0, 0), (0, 2_500), (2_000, 2_500)):
        with patch.multiple(registry.searching.finding, _MANY=many, _FEW=few):
            pages = [
                zoo.search(query, sort=sort, limit=2, offset=start) for start in range(0, 8, 2)
            ]
            first = zoo.beginning(query, sort=sort, limit=2)
        assert [row for page in pages for row in page.rows] == list(whole.rows)
        assert {page.total for page in pages} == {whole.total}
        assert first.rows == whole.rows[:2]
        assert first.total in {None, whole.total}
    assert zoo.number(query) == whole.total


class Impatient(CancellableProgress):
    """Is cancelled while the first query goes on."""

    @property
    def cancelled(self) -> bool:
        """From the second look on."""
        was = super().cancelled
        self.cancel()
        return was


def test_a_search_that_nobody_waits_for_ends(zoo):
    gone = CancellableProgress()
    gone.cancel()
    is_interrupted = zoo._database.file is not None
    with patch.object(registry.storage.stopping, "_STEPS", 1):
        for ask in (zoo.number, zoo.facets, partial(zoo.beginning, limit=2)):
            for progress in (gone, *[Impatient()] * is_interrupted):
                with pytest.raises(Cancelled):
                    ask("a size:>1", progress=progress)
    assert zoo.number("") == len(ids(zoo, ""))


@examples(30)
@given(first=queries, second=queries)
def test_queries_join_as_and(zoo, first, second):
    both = set(ids(zoo, f"{first} {second}"))
    assert both == set(ids(zoo, first)) & set(ids(zoo, second))


@examples(60)
@given(text=st.text(max_size=30))
def test_any_text_is_a_query_or_is_refused(zoo, text):
    with contextlib.suppress(BadValue):
        zoo.search(text)
