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


def lines_of(split: Tensor, episodes: list[Episode] = EPISODES) -> list[str]:
    lines = [line for episode in episodes for line in episode.text.splitlines()]
    return [lines[number] for number in split.tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_splits_are_disjoint_and_have_the_requested_sizes(kind: str) -> None:
    splits = split_lines(EPISODES, kind, Fractions(0.1, 0.2), seed=3)
    assert sorted(torch.cat(splits).tolist()) == list(range(200))
    assert [len(split) for split in splits] == [140, 20, 40]


@given(st.sampled_from(KINDS), st.integers(0, 2**32 - 1))
def test_split_depends_on_the_seed_only(kind: str, seed: int) -> None:
    once = split_lines(EPISODES, kind, Fractions(0.1, 0.3), seed)
    again = split_lines(EPISODES, kind, Fractions(0.1, 0.3), seed)
    assert all(map(torch.equal, once, again))
    if kind == "episode":  # the order of the files doesn't matter
        shuffled = random.Random(seed).sample(EPISODES, len(EPISODES))
        other = split_lines(shuffled, kind, Fractions(0.1, 0.3), seed)
        assert sorted(lines_of(other.test, shuffled)) == lines_of(once.test)


@pytest.mark.parametrize("kind", ["episode", "line"])
def test_seeds_give_different_splits(kind: str) -> None:
    tests = [split_lines(EPISODES, kind, Fractions(0, 0.2), seed).test for seed in range(4)]
    assert len({tuple(sorted(test.tolist())) for test in tests}) > 1


def test_episodes_stay_whole() -> None:
    splits = split_lines(EPISODES, "episode", Fractions(0.2, 0.2), seed=1)
    episodes = [set((split // 20).tolist()) for split in splits]
    assert [len(names) for names in episodes] == [6, 2, 2]
    assert len(set.union(*episodes)) == 10


def test_position_split_keeps_the_order() -> None:
    splits = split_lines(EPISODES, "position", Fractions(0.1, 0.1), seed=1)
    assert torch.cat(splits).tolist() == list(range(200))


def test_line_at_the_cut_belongs_to_the_split_it_starts_in() -> None:
    episodes = [Episode("1", "abcdef\n"), Episode("2", "ab\n")]  # 7 + 3 characters
    for test, lines in ((0.5, [1, 1]), (0.3, [1, 1]), (0.2, [2, 0])):
        if lines[1]:
            splits = split_lines(episodes, "position", Fractions(0, test), seed=0)
            assert [len(splits.train), len(splits.test)] == lines
        else:
            with pytest.raises(UserError, match="test split empty"):
                split_lines(episodes, "position", Fractions(0, test), seed=0)


@given(
    st.lists(st.text("ab\n", max_size=12), min_size=1, max_size=5),
    st.sampled_from([(0.0, 0.1), (0.1, 0.1), (0.2, 0.5), (0.3, 0.0)]),
)
def test_cut_at_fractions_is_exact_to_the_character(
    texts: list[str], shares: tuple[float, float]
) -> None:
    fractions = Fractions(*shares)
    episodes = [Episode(str(n), f"{text}\n" if text else "") for n, text in enumerate(texts)]
    whole = "".join(episode.text for episode in episodes)
    pieces = cut_at_fractions(episodes, fractions)
    assert "".join(piece.text for piece in pieces) == whole
    try:
        splits = split_lines(pieces, "position", fractions, seed=0)
    except UserError:
        return  # the text is too short for one of the splits
    train_end = int(len(whole) * (1 - sum(fractions)))
    val_end = int(len(whole) * (1 - fractions.test))
    lines = [line for piece in pieces for line in piece.text.splitlines(keepends=True)]
    found = ["".join(lines[number] for number in split.tolist()) for split in splits]
    assert found == [whole[:train_end], whole[train_end:val_end], whole[val_end:]]


def test_validation_split_may_be_empty() -> None:
    splits = split_lines(EPISODES, "line", Fractions(0, 0.3), seed=1)
    assert [len(split) for split in splits] == [140, 0, 60]


def test_repeated_lines_are_counted() -> None:
    episodes = [Episode("1", "A: Yes.\nB: No.\nA: Yes.\n"), Episode("2", "B: Yes.\nB: No.\n")]
    numbers = torch.arange(5)
    assert repeated(episodes, Splits(numbers[:2], numbers[2:4], numbers[4:])) == (1, 1)
    assert repeated(episodes, Splits(numbers[:1], numbers[1:2], numbers[3:])) == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_a_split(kind: str) -> None:
    splits = split_lines(EPISODES, kind, Fractions(0.15, 0.3), seed=3)
    for split in splits:
        found = "".join(texts_of(EPISODES, split)).splitlines()
        assert found == sorted(lines_of(split))


@pytest.mark.parametrize("kind", KINDS)
def test_empty_split_is_refused(kind: str) -> None:
    with pytest.raises(UserError, match=rf"data\.split={kind} leaves the \w+ split empty"):
        split_lines([Episode("1", "A: Yes.\n")], kind, Fractions(0.3, 0.3), seed=1)
