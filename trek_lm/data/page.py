"""Web pages of transcripts, as fan sites publish them."""

import re
from collections.abc import Iterator

from trek_lm.data.lines import Line, Reading, Skip
from trek_lm.data.play import is_play, read_play
from trek_lm.data.script import read_script

_TAGS = re.compile(r"<(?:!doctype\s+html|html|head|body|table|div|p|br)\b", re.IGNORECASE)


def is_page(text: str) -> bool:
    """Whether a text starts with a tag of HTML, or has one near its start."""
    return _TAGS.search(text[:2000]) is not None


def read_page(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads the text that a browser would show, as a script or a play."""
    # Who reads no page needn't wait for the parser.
    from inscriptis import get_text
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.model.config import ParserConfig

    shown = get_text(text, ParserConfig(css=CSS_PROFILES["strict"]))
    read = read_play if is_play(shown) else read_script
    yield from read(shown, episode, skip, reading)
