"""The benchmarks judge honestly, and run; what they measure is judged on a quiet machine.

All of them are run on tiny files by `make bench-try`; here one, since each takes long.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.measure import Case, Result, compare
from benchmarks.run import BENCHMARKS, main

ROOT = Path(__file__).parents[1]

IN_A_LIBRARY = (
    *("look-up by hash", "queries, p95", "the last pages", "facets", "facets, kind:vae"),
    *("facets, a word", "assetmgr list", "assetmgr list of a query"),
)


def test_a_goal_is_met_up_to_its_limit_and_nothing_is_judged_without_one() -> None:
    def result(value: float, goal: float | None) -> Result:
        return Result("any", "case", value, "x", goal)

    assert result(1.2, 1.2).met is True
    assert result(1.21, 1.2).met is False
    assert result(9.0, None).met is None


def test_each_run_is_divided_by_the_limit_of_its_own_round(tmp_path: Path) -> None:
    count = tmp_path / "runs"
    count.write_text("")

    def note(name: str) -> Case:
        code = f"open({str(count)!r}, 'a').write({name!r})"
        return Case(name, [sys.executable, "-c", code], 100.0)

    limit, case = compare("any", note("l"), [note("c")], 3)
    assert count.read_text() == "lc" * 4, "in turns, after one round that does not count"
    assert limit.value == 1.0
    assert case.ratios == tuple(c / s for c, s in zip(case.seconds, limit.seconds, strict=True))
    assert case.value == sorted(case.ratios)[1]


def test_a_case_that_fails_is_no_measurement() -> None:
    broken = Case("broken", [sys.executable, "-c", "raise SystemExit('no disk')"])
    with pytest.raises(RuntimeError, match="no disk"):
        compare("any", broken, [], 1)


def measure(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """`python -m benchmarks.run`, without starting another interpreter for it."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["run", *arguments])
    main()


def test_an_unknown_benchmark_is_refused_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        measure(monkeypatch, "nosuch")
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "nosuch" in told
    assert ", ".join(BENCHMARKS) in told


def test_every_goal_of_the_library_is_judged_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document, scratch = tmp_path / "results.json", tmp_path / "scratch"
    scratch.mkdir()
    small = ("--scale", "0.002", "--rounds", "0")
    measure(monkeypatch, "library", *small, "--scratch", str(scratch), "--json", str(document))
    assert not list(scratch.iterdir()), "scratch files are removed"
    results = json.loads(document.read_text())["results"]
    judged = {f"{e['benchmark']}: {e['case']}" for e in results if isinstance(e["met"], bool)}
    assert judged == {
        *(f"library: {name}" for name in IN_A_LIBRARY),
        *(f"memory: list, {size}" for size in ("whole", "tenth")),
        "scan: again, nothing changed",
        "first scan: assetmgr scan",
        "first scan: to sha256 alone",
        "first scan: all names are shown",
    }
