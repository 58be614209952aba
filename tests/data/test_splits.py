import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trek_lm.data.lines import Episode
from trek_lm.data.splits import (
    Fractions,
    Splits,
    cut_at_fractions,
    repeated,
    split_lines,
    texts_of,
)
from trek_lm.errors import UserError

EPISODES = [
    Episode(f"episode {e}", "".join(f"A: Line {20 * e + n:03}.\n" for n in range(20)))
    for e in range(10)
]
LINES = [line for episode in EPISODES for line in episode.text.splitlines()]
KINDS = ["episode", "line", "position"]


def lines_of(part: Tensor, episodes: list[Episode] = EPISODES) -> list[str]:
    lines = [line for episode in episodes for line in episode.text.splitlines()]
    return [lines[number] for number in part.tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_disjoint_whole_and_of_the_size_asked_for(kind: str) -> None:
    parts = split_lines(EPISODES, kind, Fractions(0.1, 0.2), seed=3)
    assert sorted(torch.cat(parts).tolist()) == list(range(200))
    assert [len(part) for part in parts] == [140, 20, 40]


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_a_split_depends_on_the_seed_alone(kind: str, seed: int) -> None:
    once = split_lines(EPISODES, kind, Fractions(0.1, 0.3), seed)
    again = split_lines(EPISODES, kind, Fractions(0.1, 0.3), seed)
    assert all(map(torch.equal, once, again))
    if kind == "episode":  # whatever order the files were found in
        shuffled = random.Random(seed).sample(EPISODES, len(EPISODES))
        other = split_lines(shuffled, kind, Fractions(0.1, 0.3), seed)
        assert sorted(lines_of(other.test, shuffled)) == lines_of(once.test)


@pytest.mark.parametrize("kind", ["episode", "line"])
def test_another_seed_splits_otherwise(kind: str) -> None:
    tests = [split_lines(EPISODES, kind, Fractions(0, 0.2), seed).test for seed in range(4)]
    assert len({tuple(sorted(test.tolist())) for test in tests}) > 1


def test_episodes_stay_whole() -> None:
    parts = split_lines(EPISODES, "episode", Fractions(0.2, 0.2), seed=1)
    episodes = [set((part // 20).tolist()) for part in parts]
    assert [len(names) for names in episodes] == [6, 2, 2]
    assert len(set.union(*episodes)) == 10


def test_position_keeps_the_order_and_puts_the_test_part_last() -> None:
    parts = split_lines(EPISODES, "position", Fractions(0.1, 0.1), seed=1)
    assert torch.cat(parts).tolist() == list(range(200))


def test_a_line_at_the_cut_belongs_to_the_split_it_starts_in() -> None:
    episodes = [Episode("1", "abcdef\n"), Episode("2", "ab\n")]  # 7 + 3 characters
    for test, lines in ((0.5, [1, 1]), (0.3, [1, 1]), (0.2, [2, 0])):
        if lines[1]:
            parts = split_lines(episodes, "position", Fractions(0, test), seed=0)
            assert [len(parts.train), len(parts.test)] == lines
        else:
            with pytest.raises(UserError, match="test split empty"):
                split_lines(episodes, "position", Fractions(0, test), seed=0)


@given(
    st.lists(st.text("ab\n", max_size=12), min_size=1, max_size=5),
    st.sampled_from([(0.0, 0.1), (0.1, 0.1), (0.2, 0.5), (0.3, 0.0)]),
)
def test_a_cut_text_is_divided_at_the_very_character(
    texts: list[str], shares: tuple[float, float]
) -> None:
    fractions = Fractions(*shares)
    episodes = [Episode(str(n), f"{text}\n" if text else "") for n, text in enumerate(texts)]
    whole = "".join(episode.text for episode in episodes)
    pieces = cut_at_fractions(episodes, fractions)
    assert "".join(piece.text for piece in pieces) == whole
    try:
        parts = split_lines(pieces, "position", fractions, seed=0)
    except UserError:
        return  # too short a text for one part or another
    train_end = int(len(whole) * (1 - sum(fractions)))
    val_end = int(len(whole) * (1 - fractions.test))
    lines = [line for piece in pieces for line in piece.text.splitlines(keepends=True)]
    found = ["".join(lines[number] for number in part.tolist()) for part in parts]
    assert found == [whole[:train_end], whole[train_end:val_end], whole[val_end:]]


def test_a_run_may_have_no_validation_part() -> None:
    parts = split_lines(EPISODES, "line", Fractions(0, 0.3), seed=1)
    assert [len(part) for part in parts] == [140, 0, 60]


def test_lines_that_stand_in_two_parts_are_counted() -> None:
    episodes = [Episode("1", "A: Yes.\nB: No.\nA: Yes.\n"), Episode("2", "B: Yes.\nB: No.\n")]
    numbers = torch.arange(5)
    assert repeated(episodes, Splits(numbers[:2], numbers[2:4], numbers[4:])) == (1, 1)
    assert repeated(episodes, Splits(numbers[:1], numbers[1:2], numbers[3:])) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_of_a_part(kind: str) -> None:
    parts = split_lines(EPISODES, kind, Fractions(0.15, 0.3), seed=3)
    for part in parts:
        found = "".join(texts_of(EPISODES, part)).splitlines()
        assert found == sorted(lines_of(part))


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_that_would_be_empty_is_named(kind: str) -> None:
    with pytest.raises(UserError, match=rf"data\.split={kind} leaves the \w+ split empty"):
        split_lines([Episode("1", "A: Yes.\n")], kind, Fractions(0.3, 0.3), seed=1)
