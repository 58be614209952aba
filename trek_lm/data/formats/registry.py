"""The formats of transcripts: how each is recognised and read."""

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

from trek_lm.data.formats import course_csv, html_page, kaggle, play, script
from trek_lm.data.lines import Line, Reading, Skip

# From a file's text, a name for its episode, a callback for skipped lines, and settings.
Read = Callable[[str, str, Skip, Reading], Iterator[Line]]


class Format(NamedTuple):
    """One value of `data.format`."""

    read: Read
    recognise: Callable[[str], object]  # takes the text; truthy if it has this format
    note: str = ""  # logged for every file of this format
    has_series: bool = False  # whether `data.series` selects among its series


def read_text(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads plain text unchanged: every physical line is a line without a speaker."""
    for line in io.StringIO(text):  # str.splitlines would split at a form feed too
        yield Line("", line.removesuffix("\n"), episode)


# Tried in this order; the first that recognises a text reads it.
FORMATS = {
    "kaggle_raw": Format(kaggle.read_raw, kaggle.RAW.match, has_series=True),
    "kaggle_lines": Format(kaggle.read_lines, kaggle.LINES.match, kaggle.NO_ORDER, has_series=True),
    "html": Format(html_page.read_html, html_page.is_html),
    "csv": Format(course_csv.read_csv, course_csv.is_csv),
    "play": Format(play.read_play, play.is_play),
    "script": Format(script.read_script, lambda text: True),
    # Never recognised, so that a misread script doesn't pass as plain text.
    "text": Format(read_text, lambda text: False),
}


def choose(text: str, name: str) -> str:
    """The name of a text's format: `name`, or for `auto` the first that recognises the text."""
    if name != "auto":
        return name
    return next(name for name, candidate in FORMATS.items() if candidate.recognise(text))
