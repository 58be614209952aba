import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.data.lines import Line
from trek_lm.data.splits import Fractions, split_lines
from trek_lm.errors import UserError

LINES = [Line("A", f"Line {n:03}.", f"episode {n // 20}") for n in range(200)]
KINDS = ["episode", "line", "position"]


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_disjoint_whole_and_of_the_size_asked_for(kind: str) -> None:
    parts = split_lines(LINES, kind, Fractions(0.1, 0.2), seed=3)
    assert sorted(parts.train + parts.val + parts.test) == sorted(LINES)
    assert (len(parts.train), len(parts.val), len(parts.test)) == (140, 20, 40)


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_a_split_depends_on_the_seed_alone(kind: str, seed: int) -> None:
    once = split_lines(LINES, kind, Fractions(0.1, 0.3), seed)
    assert once == split_lines(LINES, kind, Fractions(0.1, 0.3), seed)
    if kind != "position":
        shuffled = random.Random(seed).sample(LINES, len(LINES))
        again = split_lines(shuffled, kind, Fractions(0.1, 0.3), seed)
        assert sorted(once.test) == sorted(again.test)
        assert sorted(once.val) == sorted(again.val)


@pytest.mark.parametrize("kind", ["episode", "line"])
def test_another_seed_splits_otherwise(kind: str) -> None:
    tests = [split_lines(LINES, kind, Fractions(0, 0.2), seed).test for seed in range(4)]
    assert len({tuple(sorted(test)) for test in tests}) > 1


def test_episodes_stay_whole() -> None:
    parts = split_lines(LINES, "episode", Fractions(0.2, 0.2), seed=1)
    episodes = [{line.episode for line in part} for part in (parts.train, parts.val, parts.test)]
    assert [len(names) for names in episodes] == [6, 2, 2]
    assert not episodes[0] & episodes[1] | episodes[1] & episodes[2] | episodes[0] & episodes[2]


def test_position_keeps_the_order_and_puts_the_test_part_last() -> None:
    parts = split_lines(LINES, "position", Fractions(0.1, 0.1), seed=1)
    assert parts.train + parts.val + parts.test == LINES


def test_a_run_may_have_no_validation_part() -> None:
    parts = split_lines(LINES, "line", Fractions(0, 0.3), seed=1)
    assert (len(parts.train), len(parts.val), len(parts.test)) == (140, 0, 60)


def test_duplicates_are_counted() -> None:
    lines = [Line("A", "Yes.", "1"), Line("A", "Yes.", "2"), Line("B", "Yes.", "2")]
    parts = split_lines(lines, "position", Fractions(0, 0.6), seed=0)
    assert parts.train == lines[:1] or parts.train == lines[:2]
    assert parts.duplicates([lines[1], lines[2]]) == 1


@pytest.mark.parametrize(
    ("kind", "val", "test", "message"),
    [
        ("line", 0.5, 0.6, "sum to 1.1"),
        ("line", 0.5, 0.5, "sum to 1"),
        ("line", -0.1, 0.5, r"data\.val_fraction=-0.1"),
        ("line", 0.1, 1.5, r"data\.test_fraction=1.5"),
        ("chapter", 0.1, 0.1, "choose episode, line or position"),
    ],
)
def test_what_cannot_be_split(kind: str, val: float, test: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_lines(LINES, kind, Fractions(val, test), seed=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_that_would_be_empty_is_named(kind: str) -> None:
    with pytest.raises(UserError, match=rf"data\.split={kind} leaves the \w+ part empty"):
        split_lines(LINES[:1], kind, Fractions(0.1, 0.1), seed=1)
