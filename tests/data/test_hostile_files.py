"""Any bytes as a transcript are read, or refused by a one-line error that names the file."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trek_lm.data.charset import MAX_VOCAB_SIZE, Charset
from trek_lm.data.formats.registry import FORMATS
from trek_lm.data.formats.script import LABELS
from trek_lm.data.lines import Reading
from trek_lm.data.transcripts import read_transcripts
from trek_lm.errors import UserError

# The texts by which formats are recognised and parsed.
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
    series=st.just(()),  # refused unless a file has several series
)
made = st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=40).map("".join)
contents = (
    st.binary(max_size=300)
    | made.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | made.map(lambda text: text.encode("utf-16", "surrogatepass"))
)


def read(path: Path, content: bytes, reading: Reading) -> str:
    """The text of all episodes of a file; empty if the file is refused."""
    path.write_bytes(content)
    try:
        episodes, report = read_transcripts(path, reading)
    except UserError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert str(path) in message
        assert len(message.splitlines()) == 1
        return ""
    assert report.episodes == len(episodes)
    text = "".join(episode.text for episode in episodes)
    assert report.characters == len(text)
    return text


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents, readings)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, reading: Reading) -> None:
    text = read(tmp_path / "some.txt", content, reading)
    if text:
        charset = Charset.of([text])
        assert len(charset) <= MAX_VOCAB_SIZE
        assert charset.decode(charset.encode(text)) == charset.normalise(text)


@pytest.mark.parametrize("piece", [*PIECES, "A ", "(a", "A [", "a", "<div>", "[["])
def test_repetitive_text_is_read_in_linear_memory(piece: str, tmp_path: Path) -> None:
    """No pattern backtracks over it, and memory is proportional to the size of the file."""
    content = (piece * (20_000 // len(piece))).encode()
    tracemalloc.start()
    for labels in LABELS:
        read(tmp_path / "some.txt", content, Reading(labels=labels))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 * len(content)


def test_deeply_nested_json_is_refused(tmp_path: Path) -> None:
    content = b'{"TOS": {"episode 0": ' + b"[" * 10**6
    assert read(tmp_path / "some.json", content, Reading(format="kaggle_raw")) == ""


def test_files_over_1_gib_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "sparse.txt").open("wb") as file:
        file.truncate(2**40)  # takes no space on the disk
    with pytest.raises(UserError, match=r"sparse\.txt: more than 1 GiB: split it"):
        read_transcripts(tmp_path / "sparse.txt")
