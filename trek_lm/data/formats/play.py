"""The format of printed plays: a name and a colon alone on a line, the speech below.

    First Citizen:
    Before we proceed any further, hear me speak.

    All:
    Speak, speak.

A blank line ends a speech; its lines, verse or prose, become one.
"""

import re
from collections.abc import Iterator

from trek_lm.data.formats.script import spoken
from trek_lm.data.lines import Line, Reading, Reason, Skip, straighten

_LABEL = re.compile(r"([^\W_][\w'.&, -]{0,40})(?: *[(\[{][^)\]}]{0,60}[)\]}])? ?:")
_BLANK = re.compile(r"\n\s*\n")


def is_play(text: str) -> bool:
    """Whether most paragraphs of a text have a name and a colon alone on their first line."""
    paragraphs = _paragraphs(text[:10_000])
    labelled = sum(
        _LABEL.fullmatch(first) is not None and bool(rest) for first, *rest in paragraphs
    )
    return labelled >= 2 and 2 * labelled >= len(paragraphs)


def read_play(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads one play; `skip` is told of the physical lines that belong to no speech."""
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
    """The lines of each paragraph, spaces made one."""
    return [
        [" ".join(line.split()) for line in paragraph.strip().splitlines()]
        for paragraph in _BLANK.split(text)
        if paragraph.strip()
    ]
