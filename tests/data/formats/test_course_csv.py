import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.data.formats.course_csv import is_csv, read_csv
from trek_lm.data.lines import Reason
from trek_lm.data.transcripts import read_transcripts

QUOTED = """The Lantern Tax,[Bridge],"MEHL: Count them, again.",CRAKE: Nine.,NEXTEPISODE
"The ""Other"" One",MEHL: No.,NEXTEPISODE
"""
BARE = "MEHL: Count them, again.,CRAKE: Nine.,NEXTEPISODE,MEHL: No.,NEXTEPISODE"


def read(text: str) -> list[tuple[str, str, str]]:
    return [tuple(line) for line in read_csv(text, "all", lambda *_: None)]  # type: ignore[misc]


EXPECTED = [
    ("MEHL", "Count them, again.", "all#1"),
    ("CRAKE", "Nine.", "all#1"),
    ("MEHL", "No.", "all#2"),
]


@pytest.mark.parametrize("text", [QUOTED, BARE, BARE.replace(",CRAKE", "\nCRAKE")])
def test_both_dialects(text: str) -> None:
    assert is_csv(text)
    assert read(text) == EXPECTED


def test_an_episode_may_be_any_rows() -> None:
    rows = QUOTED.replace(',[Bridge],"', ',[Bridge]\n"').replace(",NEXT", "\nNEXT")
    assert read(rows) == EXPECTED
    assert read("\r\n".join(QUOTED.splitlines())) == EXPECTED


def test_cells_that_give_no_line_are_counted() -> None:
    skipped: list[tuple[str, str]] = []
    list(read_csv(QUOTED, "all", lambda *reason: skipped.append(reason)))
    assert skipped == [
        (Reason.HEADER, "The Lantern Tax"),
        (Reason.SCENE, "[Bridge]"),
        (Reason.HEADER, 'The "Other" One'),
    ]


def test_what_follows_the_last_mark_is_an_episode_too() -> None:
    assert read(BARE.removesuffix(",NEXTEPISODE")) == EXPECTED
    assert read("MEHL: No.")[0] == ("MEHL", "No.", "all")


def test_a_table_is_known_by_its_mark() -> None:
    assert not is_csv("MEHL: Count them, again.\nCRAKE: The NEXTEPISODES.")


spoken = st.text(st.sampled_from("ab, .'\"?"), min_size=1, max_size=20).filter(
    lambda text: any(sign in text for sign in "ab") and text == " ".join(text.split())
)


@given(st.lists(spoken, min_size=1, max_size=8))
def test_any_speech_survives_standard_quoting(speeches: list[str]) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([*(f"MEHL: {speech}" for speech in speeches), "NEXTEPISODE"])
    assert [text for _, text, _ in read(file.getvalue())] == speeches


class TestStarTrek:
    def test_the_quoted_file_is_the_folder_episode_by_episode(
        self, real_data: Path, tos: Path
    ) -> None:
        table, report = read_transcripts(real_data / "startrek" / "course_quoted.csv")
        folder, _ = read_transcripts(tos)
        assert [episode.text for episode in table] == [episode.text for episode in folder]
        assert report.formats == {"csv": 1}

    def test_the_unquoted_file_is_six_of_them(self, real_data: Path, tos: Path) -> None:
        table, report = read_transcripts(real_data / "startrek" / "course_f.csv")
        assert len(table) == 6
        assert not report.skipped
        # It lacks the transcripts' slips, and its dialect the commas at a line's end.
        for episode, original in zip(table, read_transcripts(tos)[0], strict=False):
            lines = set(original.text.splitlines())
            known = sum(line in lines for line in episode.text.splitlines())
            assert episode.lines - 2 <= known <= episode.lines >= original.lines - 4


def test_a_dialect_is_told_by_its_quotes() -> None:
    """Whatever the length of a row, and with a space after each comma too."""
    row = ",".join([f'"MEHL: Well, {n}, then."' for n in range(9_000)] + ["NEXTEPISODE"])
    assert len(read(row)) == 9_000
    assert read('"MEHL: Well, Jim.", "CRAKE: Hi, sir.", NEXTEPISODE') == [
        ("MEHL", "Well, Jim.", "all#1"),
        ("CRAKE", "Hi, sir.", "all#1"),
    ]


def test_quotes_within_a_speech_are_no_quotes_of_the_table() -> None:
    text = '"MEHL: He said, \u201cyes, sir\u201d, ok.",CRAKE: Hi.,NEXTEPISODE'
    assert read(text)[0] == ("MEHL", 'He said, "yes, sir", ok.', "all#1")
