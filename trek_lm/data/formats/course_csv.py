"""The course's CSV: a cell is a physical line of a transcript, `NEXTEPISODE` ends an episode.

Row boundaries have no meaning: an episode may have one row or many. There are two dialects:

    "TYLER: All operating, sir.",PIKE: Steady as we go.,NEXTEPISODE     standard quoting
    TYLER: All operating, sir.,PIKE: Steady as we go.,NEXTEPISODE       no quotes

Without quotes a comma followed by a space belongs to the line, and a bare comma ends a cell.
"""

import csv
import io
import re
from collections.abc import Iterator

from trek_lm.data.formats.script import read_script
from trek_lm.data.lines import Line, Reading, Skip

END = "NEXTEPISODE"

_END_CELL = re.compile(rf'(?:^|[,"\s]){END}(?:$|[,"\s])')
_QUOTED = re.compile(r'(?<![^,\n]) ?"(?:[^"]|"")*"(?![^,\n])')


def is_csv(text: str) -> bool:
    """Whether a text has a cell `NEXTEPISODE`."""
    return END in text and _END_CELL.search(text) is not None


def read_csv(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads a file of episodes; calls `skip` for each cell that is not part of a speech."""
    episodes: list[list[str]] = [[]]
    for cell in _cells(text):
        if cell.strip() == END:
            episodes.append([])
        else:
            episodes[-1].append(cell)
    for number, cells in enumerate(episodes, start=1):
        name = f"{episode}#{number}" if len(episodes) > 1 else episode
        yield from read_script("\n".join(cells), name, skip, reading)


def _cells(text: str) -> Iterator[str]:
    # In the dialect without quotes, commas before a space outnumber quoted cells.
    rest, quoted = _QUOTED.subn("", text)
    if quoted >= rest.count(", "):
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # if a quote is missing
        for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True):
            yield from row
    else:
        for line in text.split("\n"):
            yield from re.split(r",(?! )", line)
