"""The formats that transcripts come in: how each is recognised, and read."""

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

from trek_lm.data.formats import course_csv, html_page, kaggle, play, script
from trek_lm.data.lines import Line, Reading, Skip

# A file's text, a name for its episode, where to report what gives no line, and how to read it.
Read = Callable[[str, str, Skip, Reading], Iterator[Line]]


class Format(NamedTuple):
    """What `data.format` can name."""

    read: Read
    recognise: Callable[[str], object]  # from the text alone; truthy where it is this one
    note: str = ""  # what a user should know of lines read from it
    has_series: bool = False  # whether `data.series` chooses among what it holds


def read_text(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Plain text, as it stands: every physical line is a line without a speaker."""
    for line in io.StringIO(text):  # not str.splitlines: a form feed belongs to a line
        yield Line("", line.removesuffix("\n"), episode)


# In the order in which they are tried on a file; the first that recognises its text reads it.
FORMATS = {
    "kaggle_raw": Format(kaggle.read_raw, kaggle.RAW.match, has_series=True),
    "kaggle_lines": Format(kaggle.read_lines, kaggle.LINES.match, kaggle.NO_ORDER, has_series=True),
    "html": Format(html_page.read_html, html_page.is_html),
    "csv": Format(course_csv.read_csv, course_csv.is_csv),
    "play": Format(play.read_play, play.is_play),
    "script": Format(script.read_script, lambda text: True),
    # A book has no mark of its own: only who asks for it gets it, and no misread script does.
    "text": Format(read_text, lambda text: False),
}


def choose(text: str, name: str) -> str:
    """The format of a text: the one asked for, or with `auto` the one it is recognised as."""
    if name != "auto":
        return name
    return next(name for name, candidate in FORMATS.items() if candidate.recognise(text))
