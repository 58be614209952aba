from pathlib import Path

from trek_lm.data.page import is_page, read_page
from trek_lm.data.transcripts import read_transcripts

# A page as fan sites publish them: tables for layout, unclosed tags, lines wrapped anywhere.
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


def test_a_page(tmp_path: Path) -> None:
    (tmp_path / "1.htm").write_bytes(PAGE.encode("latin-1"))
    (tmp_path / "2.HTML").write_bytes(PAGE.encode("latin-1"))
    episodes, report = read_transcripts(tmp_path)
    assert [episode.text.splitlines() for episode in episodes] == [SPOKEN, SPOKEN]
    assert report.formats == {"html": 2}


def test_a_page_of_a_play() -> None:
    page = "<div><b>First Keeper:</b><br>The light<br>is out.<p><b>All:</b><br>Speak.</div>"
    lines = [tuple(line) for line in read_page(page, "one", lambda *_: None)]
    assert lines == [("FIRST KEEPER", "The light is out.", "one"), ("ALL", "Speak.", "one")]


def test_a_page_is_known_by_its_tags() -> None:
    assert is_page("\n<!DOCTYPE html>\n<html>")
    assert is_page("<P>KIRK: Yes.<BR>SPOCK: No.")
    assert not is_page("KIRK: 5 < 6 > 4, <sighs> brr.")
