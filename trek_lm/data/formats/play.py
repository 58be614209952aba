"""The format of printed plays: a line with a name and a colon only, the speech below.

    First Citizen:
    Before we proceed any further, hear me speak.

    All:
    Speak, speak.

A blank line ends a speech; its lines, verse or prose, are joined to one.
"""

import re
from collections.abc import Iterator

from trek_lm.data.formats.script import spoken
from trek_lm.data.lines import Line, Reading, Reason, Skip, straighten

_LABEL = re.compile(r"([^\W_][\w'.&, -]{0,40})(?: *[(\[{][^)\]}]{0,60}[)\]}])? ?:")
_BLANK = re.compile(r"\n\s*\n")


def is_play(text: str) -> bool:
    """Whether in most paragraphs of a text the first line is only a name and a colon."""
    paragraphs = _paragraphs(text[:10_000])
    labelled = sum(
        _LABEL.fullmatch(first) is not None and bool(rest) for first, *rest in paragraphs
    )
    return labelled >= 2 and 2 * labelled >= len(paragraphs)


def read_play(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads one play; calls `skip` for each physical line that is not part of a speech."""
    for first, *rest in _paragraphs(straighten(text)):
        label = _LABEL.fullmatch(first)
        if label is None:
            for line in (first, *rest):
                skip(Reason.ORPHAN if spoken(line) else Reason.DIRECTION, line)
        elif speech := spoken(" ".join(rest)):
            yield Line(label[1].strip().upper(), speech, episode)
        else:
            skip(Reason.SILENT, first)


def _paragraphs(text: str) -> list[list[str]]:
    """The lines of each paragraph, with single spaces."""
    return [
        [" ".join(line.split()) for line in paragraph.strip().splitlines()]
        for paragraph in _BLANK.split(text)
        if paragraph.strip()
    ]
