"""Training, validation and test split of a corpus: disjoint, and determined by a seed."""

import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress
from typing import NamedTuple

import torch
from torch import Tensor

from trek_lm.data.lines import Episode
from trek_lm.errors import UserError


class Splits(NamedTuple):
    """Line numbers of each split, int64 `(lines,)`; ascending except for `data.split=line`."""

    train: Tensor
    val: Tensor
    test: Tensor


class Fractions(NamedTuple):
    """Fractions of the validation and the test split; training gets the rest."""

    val: float
    test: float


SPLITS = Splits._fields


def split_lines(episodes: Sequence[Episode], kind: str, fractions: Fractions, seed: int) -> Splits:
    """Splits by `episode` (whole ones, shuffled), `line` (shuffled) or `position` (in order).

    Raises UserError if a split with a fraction above 0 would be empty.
    """
    splits = _KINDS[kind](episodes, fractions, seed)
    names = ("training", "validation", "test")
    for name, lines, share in zip(names, splits, (1, *fractions), strict=True):
        if share > 0 and not len(lines):
            unit, number = "lines", _lines(episodes)
            remedy = "change data.val_fraction and data.test_fraction"
            if kind == "episode":
                unit, number = "episodes", len(episodes)
                remedy = "set data.split=line or data.split=position"
            raise UserError(
                f"data.split={kind} leaves the {name} split empty ({unit}: {number}); "
                f"add more {unit}, or {remedy}"
            )
    return splits


def texts_of(episodes: Sequence[Episode], split: Tensor) -> Iterator[str]:
    """The lines of a split, each with its newline; one text per episode."""
    chosen = torch.zeros(_lines(episodes), dtype=torch.bool)
    chosen[split] = True
    masks = chosen.split([episode.lines for episode in episodes])
    for episode, mask in zip(episodes, masks, strict=True):
        lines = compress(episode.text.split("\n"), mask.tolist())
        yield "".join(f"{line}\n" for line in lines)


def repeated(episodes: Sequence[Episode], splits: Splits) -> tuple[int, int]:
    """The numbers of validation and of test lines that also occur in the training split.

    Short speeches such as "KIRK: Yes." recur everywhere and a model may memorise them, so these
    numbers say how much of a held-out figure may be memory.
    """
    lines = (episode.text.removesuffix("\n").split("\n") for episode in episodes if episode.text)
    hashes = torch.frombuffer(array("q", map(hash, chain.from_iterable(lines))), dtype=torch.int64)
    train, val, test = (hashes[split] for split in splits)
    return int(torch.isin(val, train).sum()), int(torch.isin(test, train).sum())


def cut_at_fractions(episodes: Sequence[Episode], fractions: Fractions) -> list[Episode]:
    """The same text, with episodes cut in two where a split by `position` ends.

    A split then ends at the exact character, not at the end of a line.
    """
    pieces = list(episodes)
    for position in _ends(episodes, fractions):
        before, after = _cut_at(pieces, position)
        pieces = before + after
    return pieces


def _ends(episodes: Sequence[Episode], fractions: Fractions) -> tuple[int, int]:
    """The positions in the whole text at which the training and the validation split end."""
    total = sum(len(episode.text) for episode in episodes)
    return int(total * (1 - sum(fractions))), int(total * (1 - fractions.test))


def _cut_at(episodes: Sequence[Episode], position: int) -> tuple[list[Episode], list[Episode]]:
    """The episodes before a position in the whole text, and those from it on."""
    for index, (name, text) in enumerate(episodes):
        if position < len(text):
            first, second = Episode(name, text[:position]), Episode(name, text[position:])
            return [*episodes[:index], first], [second, *episodes[index + 1 :]]
        position -= len(text)
    return list(episodes), []


def _by_episode(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Splits:
    # Sorted before the shuffle, so that the order of the files doesn't matter.
    names = sorted({episode.name for episode in episodes})
    random.Random(seed).shuffle(names)
    val, test = _counts(len(names), fractions)
    held_out = dict.fromkeys(names[:test], "test") | dict.fromkeys(names[test : test + val], "val")
    ranges: dict[str, list[Tensor]] = {name: [torch.arange(0)] for name in SPLITS}
    numbers = torch.arange(_lines(episodes)).split([episode.lines for episode in episodes])
    for episode, lines in zip(episodes, numbers, strict=True):
        ranges[held_out.get(episode.name, "train")].append(lines)
    return Splits(**{name: torch.cat(lines) for name, lines in ranges.items()})


def _by_line(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Splits:
    total = _lines(episodes)
    shuffled = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    val, test = _counts(total, fractions)
    return Splits(shuffled[test + val :], shuffled[test : test + val], shuffled[:test])


def _by_position(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Splits:
    """Training, validation, then test; a line belongs to the split in which it starts."""
    ends = [_lines(_cut_at(episodes, end)[0]) for end in _ends(episodes, fractions)]
    return Splits(*torch.arange(_lines(episodes)).tensor_split(ends))


def _lines(episodes: Iterable[Episode]) -> int:
    return sum(episode.lines for episode in episodes)


def _counts(total: int, fractions: Fractions) -> tuple[int, int]:
    """The sizes of validation and test: at least 1 if the fraction is above 0."""
    val, test = (max(1, round(total * fraction)) if fraction > 0 else 0 for fraction in fractions)
    return val, test


_KINDS = {"episode": _by_episode, "line": _by_line, "position": _by_position}
