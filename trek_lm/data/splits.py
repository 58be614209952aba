"""Training, validation and test split of a corpus: disjoint, and the same for the same seed."""

import random
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from trek_lm.data.lines import Episode
from trek_lm.errors import UserError


class Splits(NamedTuple):
    """Numbers of the lines of each split, int64 `(lines,)`; ascending but for `data.split=line`."""

    train: Tensor
    val: Tensor
    test: Tensor


class Fractions(NamedTuple):
    """Shares of the validation and the test split; training takes the rest."""

    val: float
    test: float


SPLITS = Splits._fields


def split_lines(episodes: Sequence[Episode], kind: str, fractions: Fractions, seed: int) -> Splits:
    """Splits by `episode` (whole ones, shuffled), `line` (shuffled) or `position` (in order).

    Raises UserError where a split that was asked for would be empty.
    """
    splits = _KINDS[kind](episodes, fractions, seed)
    for name, lines, wanted in (
        ("training", splits.train, True),
        ("validation", splits.val, fractions.val > 0),
        ("test", splits.test, fractions.test > 0),
    ):
        if wanted and not len(lines):
            raise UserError(_empty(name, kind, episodes))
    return splits


def texts_of(episodes: Sequence[Episode], split: Tensor) -> Iterator[str]:
    """The text of a split's lines, episode by episode."""
    chosen = torch.zeros(sum(episode.lines for episode in episodes), dtype=torch.bool)
    chosen[split] = True
    start = 0
    for episode in episodes:
        mask = chosen[start : start + episode.lines]
        start += episode.lines
        if mask.all():
            yield episode.text
        elif mask.any():
            lines = episode.text.split("\n")
            yield "".join(f"{lines[number]}\n" for number in mask.nonzero()[:, 0].tolist())


def repeated(episodes: Sequence[Episode], splits: Splits) -> tuple[int, int]:
    """How many lines of the validation and of the test split also stand in the training split.

    Short speeches such as "KIRK: Yes." recur everywhere; a model may have them by heart, so the
    count says how far a split's figures measure memory.
    """
    lines = (episode.text.removesuffix("\n").split("\n") for episode in episodes if episode.text)
    hashes = torch.frombuffer(array("q", map(hash, chain.from_iterable(lines))), dtype=torch.int64)
    val, test = (
        int(torch.isin(hashes[split], hashes[splits.train]).sum())
        for split in (splits.val, splits.test)
    )
    return val, test


def cut_at_fractions(episodes: Sequence[Episode], fractions: Fractions) -> list[Episode]:
    """The same text, its episodes cut in two where a split by `position` ends.

    Then a split ends at that very character and not at the end of its line.
    """
    pieces = list(episodes)
    for position in reversed(_ends(episodes, fractions)):
        index, offset = _locate(pieces, position)
        if index < len(pieces):
            name, text = pieces[index]
            pieces[index : index + 1] = [Episode(name, text[:offset]), Episode(name, text[offset:])]
    return pieces


def _ends(episodes: Sequence[Episode], fractions: Fractions) -> tuple[int, int]:
    """The characters before which the training and the validation split end."""
    total = sum(len(episode.text) for episode in episodes)
    return int(total * (1 - sum(fractions))), int(total * (1 - fractions.test))


def _locate(episodes: Sequence[Episode], position: int) -> tuple[int, int]:
    """The episode of a character of the whole text, and its place there."""
    for index, episode in enumerate(episodes):
        if position < len(episode.text):
            return index, position
        position -= len(episode.text)
    return len(episodes), 0


def _by_episode(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Splits:
    # Sorted before the shuffle: the order in which files were found must not matter.
    names = sorted({episode.name for episode in episodes})
    random.Random(seed).shuffle(names)
    val, test = _counts(len(names), fractions)
    held_out = dict.fromkeys(names[:test], "test") | dict.fromkeys(names[test : test + val], "val")
    ranges: dict[str, list[Tensor]] = {name: [torch.arange(0)] for name in Splits._fields}
    start = 0
    for episode in episodes:
        end = start + episode.lines
        ranges[held_out.get(episode.name, "train")].append(torch.arange(start, end))
        start = end
    return Splits(**{name: torch.cat(numbers) for name, numbers in ranges.items()})


def _by_line(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Splits:
    total = sum(episode.lines for episode in episodes)
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(total, generator=generator)
    val, test = _counts(total, fractions)
    return Splits(shuffled[test + val :], shuffled[test : test + val], shuffled[:test])


def _by_position(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Splits:
    """Training first, then validation, test last; a line belongs to the split it starts in."""
    train_end, val_end = (
        _lines_before(episodes, position) for position in _ends(episodes, fractions)
    )
    numbers = torch.arange(sum(episode.lines for episode in episodes))
    return Splits(numbers[:train_end], numbers[train_end:val_end], numbers[val_end:])


def _lines_before(episodes: Sequence[Episode], position: int) -> int:
    """How many lines start before a character."""
    index, offset = _locate(episodes, position)
    before = sum(episode.lines for episode in episodes[:index])
    return before + (Episode("", episodes[index].text[:offset]).lines if offset else 0)


def _counts(total: int, fractions: Fractions) -> tuple[int, int]:
    """How many of `total` go to validation and test: at least one each where one is asked for."""
    val, test = (max(1, round(total * fraction)) if fraction > 0 else 0 for fraction in fractions)
    return val, test


def _empty(name: str, kind: str, episodes: Sequence[Episode]) -> str:
    if kind == "episode":
        hint = "give more episodes, or set data.split=line or data.split=position"
        return (
            f"data.split=episode leaves the {name} split empty (episodes: {len(episodes)}); {hint}"
        )
    lines = sum(episode.lines for episode in episodes)
    hint = "give more lines, or change data.val_fraction and data.test_fraction"
    return f"data.split={kind} leaves the {name} split empty (lines: {lines}); {hint}"


_KINDS = {"episode": _by_episode, "line": _by_line, "position": _by_position}
