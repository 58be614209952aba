"""Training, validation and test parts of a corpus: disjoint, and the same for the same seed."""

import random
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from trek_lm.data.lines import Episode
from trek_lm.errors import UserError


class Parts(NamedTuple):
    """Numbers of the lines of each part, int64 `(lines,)`; ascending but for the `line` split."""

    train: Tensor
    val: Tensor
    test: Tensor


class Fractions(NamedTuple):
    """Shares of the validation and the test part; training takes the rest."""

    val: float
    test: float


def split_lines(episodes: Sequence[Episode], kind: str, fractions: Fractions, seed: int) -> Parts:
    """Splits by `episode` (whole ones, shuffled), `line` (shuffled) or `position` (in order).

    Raises UserError for an unknown kind, for fractions that leave no training part, and where a
    part that was asked for would be empty.
    """
    check(kind, fractions)
    parts = _SPLITS[kind](episodes, fractions, seed)
    for name, part, wanted in (
        ("training", parts.train, True),
        ("validation", parts.val, fractions.val > 0),
        ("test", parts.test, fractions.test > 0),
    ):
        if wanted and not len(part):
            raise UserError(_empty_part(name, kind, episodes))
    return parts


def check(kind: str, fractions: Fractions) -> None:
    """Raises UserError, naming the key, unless a corpus can be split so."""
    for name, fraction in zip(("data.val_fraction", "data.test_fraction"), fractions, strict=True):
        if not isinstance(fraction, int | float) or not 0 <= fraction < 1:
            raise UserError(f"{name}={fraction}: a fraction is at least 0 and below 1")
    if sum(fractions) >= 1:
        raise UserError(
            f"data.val_fraction={fractions.val:g} and data.test_fraction={fractions.test:g} "
            f"sum to {sum(fractions):g}: less than 1 must be asked for, training takes the rest"
        )
    if kind not in _SPLITS:
        raise UserError(f"data.split={kind}: choose episode, line or position")


def texts_of(episodes: Sequence[Episode], part: Tensor) -> Iterator[str]:
    """The text of a part's lines, episode by episode."""
    chosen = torch.zeros(sum(episode.lines for episode in episodes), dtype=torch.bool)
    chosen[part] = True
    start = 0
    for episode in episodes:
        mask = chosen[start : start + episode.lines]
        start += episode.lines
        if mask.all():
            yield episode.text
        elif mask.any():
            lines = episode.text.split("\n")
            yield "".join(f"{lines[number]}\n" for number in mask.nonzero()[:, 0].tolist())


def repeated(episodes: Sequence[Episode], parts: Parts) -> tuple[int, int]:
    """How many lines of the validation and of the test part also stand in the training part.

    Short speeches such as "KIRK: Yes." recur everywhere; a model may have them by heart, so the
    count says how far a part's figures measure memory.
    """
    lines = (episode.text.removesuffix("\n").split("\n") for episode in episodes if episode.text)
    hashes = torch.frombuffer(array("q", map(hash, chain.from_iterable(lines))), dtype=torch.int64)
    val, test = (
        int(torch.isin(hashes[part], hashes[parts.train]).sum()) for part in (parts.val, parts.test)
    )
    return val, test


def cut_at_fractions(episodes: Sequence[Episode], fractions: Fractions) -> list[Episode]:
    """The same text, its episodes cut in two where a part of the `position` split ends.

    Then a part ends at that very character and not at the end of its line.
    """
    pieces = list(episodes)
    for position in reversed(_ends(episodes, fractions)):
        index, offset = _locate(pieces, position)
        if index < len(pieces):
            name, text = pieces[index]
            pieces[index : index + 1] = [Episode(name, text[:offset]), Episode(name, text[offset:])]
    return pieces


def _ends(episodes: Sequence[Episode], fractions: Fractions) -> tuple[int, int]:
    """The characters before which the training and the validation part end."""
    total = sum(len(episode.text) for episode in episodes)
    return int(total * (1 - sum(fractions))), int(total * (1 - fractions.test))


def _locate(episodes: Sequence[Episode], position: int) -> tuple[int, int]:
    """The episode of a character of the whole text, and its place there."""
    for index, episode in enumerate(episodes):
        if position < len(episode.text):
            return index, position
        position -= len(episode.text)
    return len(episodes), 0


def _by_episode(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Parts:
    # Sorted before the shuffle: the order in which files were found must not matter.
    names = sorted({episode.name for episode in episodes})
    random.Random(seed).shuffle(names)
    val, test = _counts(len(names), fractions)
    held_out = dict.fromkeys(names[:test], "test") | dict.fromkeys(names[test : test + val], "val")
    ranges: dict[str, list[Tensor]] = {name: [torch.arange(0)] for name in Parts._fields}
    start = 0
    for episode in episodes:
        end = start + episode.lines
        ranges[held_out.get(episode.name, "train")].append(torch.arange(start, end))
        start = end
    return Parts(**{name: torch.cat(parts) for name, parts in ranges.items()})


def _by_line(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Parts:
    total = sum(episode.lines for episode in episodes)
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(total, generator=generator)
    val, test = _counts(total, fractions)
    return Parts(shuffled[test + val :], shuffled[test : test + val], shuffled[:test])


def _by_position(episodes: Sequence[Episode], fractions: Fractions, seed: int) -> Parts:
    """Training first, then validation, test last; a line belongs to the part it starts in."""
    train_end, val_end = (
        _lines_before(episodes, position) for position in _ends(episodes, fractions)
    )
    numbers = torch.arange(sum(episode.lines for episode in episodes))
    return Parts(numbers[:train_end], numbers[train_end:val_end], numbers[val_end:])


def _lines_before(episodes: Sequence[Episode], position: int) -> int:
    """How many lines start before a character."""
    index, offset = _locate(episodes, position)
    before = sum(episode.lines for episode in episodes[:index])
    return before + (Episode("", episodes[index].text[:offset]).lines if offset else 0)


def _counts(total: int, fractions: Fractions) -> tuple[int, int]:
    """How many of `total` go to validation and test: at least one each where one is asked for."""
    val, test = (max(1, round(total * fraction)) if fraction > 0 else 0 for fraction in fractions)
    return val, test


def _empty_part(name: str, kind: str, episodes: Sequence[Episode]) -> str:
    if kind == "episode":
        hint = "give more episodes, or set data.split=line or data.split=position"
        return (
            f"data.split=episode leaves the {name} part empty (episodes: {len(episodes)}); {hint}"
        )
    lines = sum(episode.lines for episode in episodes)
    hint = "give more lines, or change data.val_fraction and data.test_fraction"
    return f"data.split={kind} leaves the {name} part empty (lines: {lines}); {hint}"


_SPLITS = {"episode": _by_episode, "line": _by_line, "position": _by_position}
