from pathlib import Path

import pytest

from trek_lm.data.formats.html_page import is_html, read_html
from trek_lm.data.transcripts import read_transcripts

# A page like those of fan sites: tables for layout, unclosed tags, wrapped lines.
PAGE = """<html><head>
<meta http-equiv="Content-Type" content="text/html; charset=windows-1252">
<title>The Deep Harbour Transcripts - Pilot</title>
<style>p {color: red}</style><script>var a = "<p>NOBODY: no</p>";</script></head>
<body bgcolor="#000000"><p align="center"><b>The Deep Harbour Transcripts -
Pilot</b><p>Stardate: 41153.7<br>Original Airdate: 28 Sep, 1987</p>
<table border="0"><tr><td width="85%"><p><b>[Bridge]</b></p>
<p>(The <i>ship</i> moves in) <br>
ADA: You will agree, Bran, that
Harbour&#39;s orders are&nbsp;difficult?<br>
BRAN: Difficult? Simply &amp; plainly: &quot;solve it&quot;, <i>my</i> friend.<br>
ADA [OC]: Caf\xe9 at 5 &lt; 6.</p>
<p>Keeper's log, supplemental. We are
arriving.</p><p>CARA: As simple as\x92that.</p></td></tr></table>
<p><a href="episodes.htm">&lt;Back to the episode listing</a></p>
<p>Deep Harbour &reg; and related marks are trademarks.</p></body></html>"""

SPOKEN = [
    "ADA: You will agree, Bran, that Harbour's orders are difficult?",
    'BRAN: Difficult? Simply & plainly: "solve it", my friend.',
    "ADA: Caf\xe9 at 5 < 6.",
    "CARA: As simple as'that.",
]


def test_page_of_a_fan_site(tmp_path: Path) -> None:
    (tmp_path / "1.htm").write_bytes(PAGE.encode("latin-1"))
    (tmp_path / "2.HTML").write_bytes(PAGE.encode("latin-1"))
    episodes, report = read_transcripts(tmp_path)
    assert [episode.text.splitlines() for episode in episodes] == [SPOKEN, SPOKEN]
    assert report.formats == {"html": 2}


def test_page_with_a_play() -> None:
    page = "<div><b>First Keeper:</b><br>The light<br>is out.<p><b>All:</b><br>Speak.</div>"
    lines = [tuple(line) for line in read_html(page, "one", lambda *_: None)]
    assert lines == [("FIRST KEEPER", "The light is out.", "one"), ("ALL", "Speak.", "one")]


@pytest.mark.parametrize(
    "body",
    [
        "<table><tr><td>Home<br>Contact</td><td>ADA: Yes.<br>BRAN: No.</td></tr></table>",
        "<section>ADA: Yes.</section><section>BRAN: No.</section>",
        "<center>ADA: Yes.</center><center>BRAN: No.</center>",
        "<ul><li>ADA: Yes.</li><li>BRAN: No.</li></ul>",
        "<dl><dt>ADA:</dt><dd>Yes.</dd><dt>BRAN:</dt><dd>No.</dd></dl>",
        "<p>ADA:</p><p>Yes.</p><p>BRAN:</p><p>No.</p>",
        "<div>ADA: <i>Y</i>es.</div><div>BRAN&#58; No&#46;</div>",
    ],
)
def test_layouts(body: str) -> None:
    lines = read_html(f"<html><body>{body}</body></html>", "one", lambda *_: None)
    assert [(line.speaker, line.text) for line in lines] == [("ADA", "Yes."), ("BRAN", "No.")]


def test_quote_entities_become_straight() -> None:
    page = "<p>ADA: I don&rsquo;t &ldquo;know&rdquo;&nbsp;&mdash; yet.</p>"
    (line,) = read_html(page, "one", lambda *_: None)
    assert line.text == 'I don\'t "know" - yet.'


@pytest.mark.parametrize("page", ["<html></html>", "", " \n", "<!-- KIRK: Yes. -->"])
def test_empty_page(page: str) -> None:
    assert list(read_html(page, "one", lambda *_: None)) == []


def test_html_is_recognised_by_its_tags() -> None:
    assert is_html("\n<!DOCTYPE html>\n<html>")
    assert is_html("<P>KIRK: Yes.<BR>SPOCK: No.<br>")
    assert not is_html("KIRK: 5 < 6 > 4, <sighs> brr.\nSPOCK: A <p> tag.")
