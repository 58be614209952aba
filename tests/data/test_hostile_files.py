"""Any bytes at all as a transcript: they are read, or refused in one line that names the file."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trek_lm.data.charset import MAX_SYMBOLS, Charset
from trek_lm.data.formats.registry import FORMATS
from trek_lm.data.formats.script import LABELS
from trek_lm.data.lines import Reading
from trek_lm.data.transcripts import read_transcripts
from trek_lm.errors import UserError

# What the formats are recognised by, and what they look for.
PIECES = [
    *("KIRK: Go.", "KIRK:", "kirk: x", "O'", "Mc", "(", ")", "[", "]", "{", "}", ":", ";", ". "),
    *("\n", "\n\n", "\r", "\t", '"', '",', ",", ", "),
    *("NEXTEPISODE,", "Episode Number: 1", "12:30 "),
    *('{"TOS": {"episode 0": "', '{"TOS": {"episode 0": {"KIRK": ["', '"]}}}', "\\u0000", "<html>"),
    *("<table><tr><td>", "<br>", "<!--", "&amp;", "&#0;", "<script>", "\u0301", "\ufeff", "\u2028"),
]
readings = st.builds(
    Reading,
    format=st.sampled_from(["auto", *FORMATS]),
    labels=st.sampled_from(list(LABELS)),
    series=st.just(()),  # which is asked of the files together
)
made = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40).map("".join)
contents = (
    st.binary(max_size=300)
    | made.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | made.map(lambda text: text.encode("utf-16", "surrogatepass"))
)


def read(path: Path, content: bytes, reading: Reading) -> str:
    """What is read of a file, all episodes together; nothing where it is refused."""
    path.write_bytes(content)
    try:
        episodes, report = read_transcripts(path, reading)
    except UserError as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert str(path) in told
        assert len(told.splitlines()) == 1
        return ""
    assert report.episodes == len(episodes)
    text = "".join(episode.text for episode in episodes)
    assert report.characters == len(text)
    return text


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents, readings)
def test_any_bytes(tmp_path: Path, content: bytes, reading: Reading) -> None:
    text = read(tmp_path / "some.txt", content, reading)
    if text:
        charset = Charset.of([text])
        assert len(charset) <= MAX_SYMBOLS
        assert charset.decode(charset.encode(text)) == charset.normalise(text)


@pytest.mark.parametrize("piece", [*PIECES, "A ", "(a", "A [", "a", "<div>", "[["])
def test_a_lot_of_the_same(piece: str, tmp_path: Path) -> None:
    """No pattern goes back and forth over it, and memory is in proportion to the file."""
    content = (piece * (20_000 // len(piece))).encode()
    tracemalloc.start()
    for labels in LABELS:
        read(tmp_path / "some.txt", content, Reading(labels=labels))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * len(content)


def test_json_as_deep_as_it_goes(tmp_path: Path) -> None:
    content = b'{"TOS": {"episode 0": ' + b"[" * 10**6
    assert read(tmp_path / "some.json", content, Reading(format="kaggle_raw")) == ""


def test_files_of_any_size_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.txt").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(UserError, match=r"sparse\.txt: more than 1 GiB: split it"):
        read_transcripts(tmp_path / "sparse.txt")
