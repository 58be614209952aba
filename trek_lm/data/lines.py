"""A spoken line, and the report of what was read and what was not."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Line(NamedTuple):
    """One speech: who, what, and in which episode."""

    speaker: str  # as labelled, qualifiers dropped: "SPOCK", "T'PAU", "ALICE AND KIRK"
    text: str  # what is spoken, on one line, without directions
    episode: str  # unique in the corpus: the file's name, numbered if the file holds several


@dataclass
class Report:
    """What reading a corpus found, for people to check."""

    files: int = 0
    lines: int = 0
    characters: int = 0  # of `SPEAKER: text` and its newline, before any charset
    episodes: set[str] = field(default_factory=set)
    speakers: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> physical lines
    warnings: list[str] = field(default_factory=list)

    def add(self, line: Line) -> None:
        self.lines += 1
        self.characters += len(line.speaker) + len(line.text) + 3
        self.episodes.add(line.episode)
        self.speakers[line.speaker] += 1

    def __str__(self) -> str:
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.most_common())
        return (
            f"{count(self.files, 'file')}, {count(len(self.episodes), 'episode')}, "
            f"{count(self.lines, 'line')}, {count(self.characters, 'character')}, "
            f"{count(len(self.speakers), 'speaker')}; skipped: {skipped or 'nothing'}"
        )


def count(number: int, noun: str) -> str:
    """`1 line`, `2,000 lines`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# Why a physical line is not part of a speech.
HEADER = "header"
SCENE = "scene"
DIRECTION = "stage direction"
LOG = "log entry without a speaker"
ORPHAN = "text without a speaker"
SILENT = "label with nothing spoken"

Skip = Callable[[str, str], None]  # (reason, physical line)
