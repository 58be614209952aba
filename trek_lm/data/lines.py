"""A speech, an episode, and the report of what was read and skipped."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from trek_lm.terminal import count


class Line(NamedTuple):
    """One speech."""

    speaker: str  # in capitals, without qualifier: "SPOCK", "T'PAU"; "" in plain text
    text: str  # the spoken words, on one line, without stage directions
    episode: str  # unique in its file: the file's name, numbered if the file holds several

    def render(self) -> str:
        """The line as a model reads it: `SPEAKER: text` and a newline."""
        return f"{self.speaker}: {self.text}\n" if self.speaker else f"{self.text}\n"


class Episode(NamedTuple):
    """The lines of an episode as a model reads them; splits, charset and cache use this form."""

    name: str
    text: str  # every line ends with a newline, except one that a split has cut in two

    @property
    def lines(self) -> int:
        return self.text.count("\n") + (not self.text.endswith("\n") if self.text else 0)


class Reading(NamedTuple):
    """How transcripts are read: `data.format`, `data.labels` and `data.series`."""

    format: str = "auto"
    labels: str = "capitals"  # how speakers are written: capitals, mixed or any
    series: tuple[str, ...] = ()  # for a file with several series; (): all


@dataclass
class Report:
    """What was read and skipped in a corpus; logged at each run."""

    files: int = 0
    lines: int = 0
    characters: int = 0  # of the rendered lines, before encoding
    episodes: int = 0
    formats: Counter[str] = field(default_factory=Counter)  # format -> files
    speakers: Counter[str] = field(default_factory=Counter)  # speaker -> lines
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> physical lines
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.most_common())
        formats = ", ".join(self.formats)
        return (
            f"{count(self.files, 'file')} ({formats}), {count(self.episodes, 'episode')}, "
            f"{count(self.lines, 'line')}, {count(self.characters, 'character')}, "
            f"{count(len(self.speakers), 'speaker')}; skipped: {skipped or 'nothing'}"
        )


class Reason(StrEnum):
    """Why a physical line is not part of a speech."""

    HEADER = "header"
    SCENE = "scene"
    DIRECTION = "stage direction"
    LOG = "log entry without a speaker"
    ORPHAN = "text without a speaker"
    SILENT = "label with nothing spoken"
    # Not skipped, but perhaps the speech of another speaker.
    UNKNOWN_LABEL = "line that looks labelled, read as part of the previous speech"


Skip = Callable[[Reason, str], None]  # called with a physical line that is no speech

_STRAIGHT = {
    "'": "\u2018\u2019\u201a\u201b",
    '"': "\u201c\u201d\u201e",
    "-": "\u2013\u2014\u2212",
    " ": "\u00a0\u202f",
    "\n": "\f\u0085\u2028\u2029",
    "": "\ufeff\u200b\u200e\u00ad",  # invisible characters: byte order mark, zero-width space, ...
}


def straighten(text: str) -> str:
    """Replaces curly quotes, long dashes, no-break spaces and page breaks by plain characters."""
    for plain, fancy in _STRAIGHT.items():
        for sign in fancy:  # str.translate takes ten times as long
            text = text.replace(sign, plain)
    return text
