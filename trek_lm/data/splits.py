"""Training, validation and test parts of a corpus: disjoint, and the same for the same seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from trek_lm.data.lines import Line
from trek_lm.errors import UserError


@dataclass
class Parts:
    """The lines of each part, in corpus order (`line` split: in the shuffled order)."""

    train: list[Line] = field(default_factory=list)
    val: list[Line] = field(default_factory=list)
    test: list[Line] = field(default_factory=list)

    def duplicates(self, part: Sequence[Line]) -> int:
        """Lines of a part whose speaker and text also stand in the training part.

        Short speeches such as "KIRK: Yes." recur everywhere; a model may have them by heart, so
        the count says how far a part's figures measure memory.
        """
        seen = {(line.speaker, line.text) for line in self.train}
        return sum((line.speaker, line.text) in seen for line in part)


class Fractions(NamedTuple):
    """Shares of the validation and the test part; training takes the rest."""

    val: float
    test: float


def split_lines(lines: list[Line], kind: str, fractions: Fractions, seed: int) -> Parts:
    """Splits by `episode` (whole ones, shuffled), `line` (shuffled) or `position` (in order).

    Raises UserError for an unknown kind, for fractions that leave no training part, and where a
    part that was asked for would be empty.
    """
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
    parts = _SPLITS[kind](lines, fractions, seed)
    for name, part, wanted in (
        ("training", parts.train, True),
        ("validation", parts.val, fractions.val > 0),
        ("test", parts.test, fractions.test > 0),
    ):
        if wanted and not part:
            raise UserError(_empty_part(name, kind, lines))
    return parts


def _empty_part(name: str, kind: str, lines: list[Line]) -> str:
    if kind == "episode":
        have = len({line.episode for line in lines})
        hint = "give more episodes, or set data.split=line or data.split=position"
        return f"data.split=episode leaves the {name} part empty (episodes: {have}); {hint}"
    hint = "give more lines, or change data.val_fraction and data.test_fraction"
    return f"data.split={kind} leaves the {name} part empty (lines: {len(lines)}); {hint}"


def _by_episode(lines: list[Line], fractions: Fractions, seed: int) -> Parts:
    # Sorted before the shuffle: the order in which files were found must not matter.
    episodes = sorted({line.episode for line in lines})
    random.Random(seed).shuffle(episodes)
    val, test = _counts(len(episodes), fractions)
    held_out = dict.fromkeys(episodes[:test], "test") | dict.fromkeys(
        episodes[test : test + val], "val"
    )
    parts = Parts()
    for line in lines:
        getattr(parts, held_out.get(line.episode, "train")).append(line)
    return parts


def _by_line(lines: list[Line], fractions: Fractions, seed: int) -> Parts:
    shuffled = sorted(lines)
    random.Random(seed).shuffle(shuffled)
    val, test = _counts(len(lines), fractions)
    return Parts(shuffled[test + val :], shuffled[test : test + val], shuffled[:test])


def _by_position(lines: list[Line], fractions: Fractions, seed: int) -> Parts:
    """Training first, then validation, test last; cut where the characters say."""
    ends = Parts()
    total = sum(len(line.speaker) + len(line.text) + 3 for line in lines)
    train_end, val_end = total * (1 - sum(fractions)), total * (1 - fractions.test)
    start = 0
    for line in lines:
        part = ends.train if start < train_end else ends.val if start < val_end else ends.test
        part.append(line)
        start += len(line.speaker) + len(line.text) + 3
    return ends


def _counts(total: int, fractions: Fractions) -> tuple[int, int]:
    """How many of `total` go to validation and test: at least one each where one is asked for."""
    val, test = (max(1, round(total * fraction)) if fraction > 0 else 0 for fraction in fractions)
    return val, test


_SPLITS = {"episode": _by_episode, "line": _by_line, "position": _by_position}
