"""Web pages of transcripts, as fan sites publish them."""

import re
from collections.abc import Iterator

from trek_lm.data.formats.play import is_play, read_play
from trek_lm.data.formats.script import read_script
from trek_lm.data.lines import Line, Reading, Skip

_DOCUMENT = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_TAG = re.compile(r"<(?:table|td|div|p|br)\b[^<>]*>", re.IGNORECASE)
# Made `div`: a browser breaks lines at these; the parser may not, or puts them side by side.
_BLOCKS = (
    *("table", "thead", "tbody", "tr", "td", "th", "center", "section", "article", "main"),
    *("dl", "dt", "dd", "ul", "ol", "li"),
)


def is_html(text: str) -> bool:
    """Whether a text starts like an HTML document, or has more than two tags near its start."""
    start = text[:5000]
    return _DOCUMENT.search(start) is not None or len(_TAG.findall(start)) > 2


def read_html(text: str, episode: str, skip: Skip, reading: Reading = Reading()) -> Iterator[Line]:
    """Reads the text that a browser would show, cell by cell, as a script or a play."""
    # Imported here: only web pages need the parser, which takes a while to import.
    from inscriptis.css_profiles import CSS_PROFILES
    from inscriptis.html_engine import Inscriptis
    from inscriptis.model.config import ParserConfig
    from lxml import etree, html

    # As UTF-8 bytes, because the page may declare the encoding that it was decoded from.
    parser = html.HTMLParser(encoding="utf-8")
    try:
        tree = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # an empty page
        return
    for element in tree.iter(*_BLOCKS):
        element.tag = "div"
    shown = str(Inscriptis(tree, ParserConfig(css=CSS_PROFILES["strict"])).get_text())
    read = read_play if is_play(shown) else read_script
    yield from read(shown, episode, skip, reading)
