"""A sample of the cases that `make fuzz` makes: an error of ours or a right answer, never more."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fuzzing import Seed, case, outcome, seeds

FIRST, COUNT, PARTS = 1_000_000, 3_000, 10
"""Numbers that `make fuzz` does not use by default."""


@pytest.fixture(scope="module")
def marker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "ran"


@pytest.fixture(scope="module")
def corpus(marker: Path) -> list[Seed]:
    return seeds(f"touch {marker}")


def test_every_seed_is_read_or_refused_as_it_is(corpus: list[Seed], marker: Path) -> None:
    for seed in corpus:
        word = outcome(seed, seed.files)
        benign = not seed.container.startswith("hostile")
        assert (word == "read, safe") == benign, (seed.container, word)
    assert not marker.exists()


@pytest.mark.parametrize("part", range(PARTS))
def test_broken_files_give_errors_of_ours_or_tensors_of_the_right_size(
    part: int, corpus: list[Seed], marker: Path
) -> None:
    size = COUNT // PARTS
    for number in range(FIRST + part * size, FIRST + (part + 1) * size):
        outcome(*case(corpus, number))
    assert not marker.exists()


def test_a_case_is_made_from_its_number_alone(corpus: list[Seed]) -> None:
    for number in range(50):
        assert case(corpus, number) == case(corpus, number)
    assert len({repr(case(corpus, number)[1]) for number in range(200)}) > 150
