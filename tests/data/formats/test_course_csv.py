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


def test_row_boundaries_are_ignored() -> None:
    rows = QUOTED.replace(',[Bridge],"', ',[Bridge]\n"').replace(",NEXT", "\nNEXT")
    assert read(rows) == EXPECTED
    assert read("\r\n".join(QUOTED.splitlines())) == EXPECTED


def test_cells_without_speech_are_skipped() -> None:
    skipped: list[tuple[str, str]] = []
    list(read_csv(QUOTED, "all", lambda *reason: skipped.append(reason)))
    assert skipped == [
        (Reason.HEADER, "The Lantern Tax"),
        (Reason.SCENE, "[Bridge]"),
        (Reason.HEADER, 'The "Other" One'),
    ]


def test_cells_after_the_last_nextepisode_are_an_episode() -> None:
    assert read(BARE.removesuffix(",NEXTEPISODE")) == EXPECTED
    assert read("MEHL: No.")[0] == ("MEHL", "No.", "all")


def test_csv_is_recognised_by_a_nextepisode_cell() -> None:
    assert not is_csv("MEHL: Count them, again.\nCRAKE: The NEXTEPISODES.")


spoken = st.text(st.sampled_from("ab, .'\"?"), min_size=1, max_size=20).filter(
    lambda text: any(sign in text for sign in "ab") and text == " ".join(text.split())
)


@given(st.lists(spoken, min_size=1, max_size=8))
def test_standard_quoting_round_trip(speeches: list[str]) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([*(f"MEHL: {speech}" for speech in speeches), "NEXTEPISODE"])
    assert [text for _, text, _ in read(file.getvalue())] == speeches


class TestStarTrek:
    def test_quoted_file_equals_the_folder(self, real_data: Path, tos: Path) -> None:
        table, report = read_transcripts(real_data / "startrek" / "course_quoted.csv")
        folder, _ = read_transcripts(tos)
        assert [episode.text for episode in table] == [episode.text for episode in folder]
        assert report.formats == {"csv": 1}

    def test_unquoted_file_has_six_episodes(self, real_data: Path, tos: Path) -> None:
        table, report = read_transcripts(real_data / "startrek" / "course_f.csv")
        assert len(table) == 6
        assert not report.skipped
        # It has no typing errors, and its dialect loses commas at the end of a line.
        for episode, original in zip(table, read_transcripts(tos)[0], strict=False):
            lines = set(original.text.splitlines())
            known = sum(line in lines for line in episode.text.splitlines())
            assert episode.lines - 2 <= known <= episode.lines >= original.lines - 4


def test_dialect_is_detected_by_quoted_cells() -> None:
    """For rows of any length, and also with a space after each comma."""
    row = ",".join([f'"MEHL: Well, {n}, then."' for n in range(9_000)] + ["NEXTEPISODE"])
    assert len(read(row)) == 9_000
    assert read('"MEHL: Well, Jim.", "CRAKE: Hi, sir.", NEXTEPISODE') == [
        ("MEHL", "Well, Jim.", "all#1"),
        ("CRAKE", "Hi, sir.", "all#1"),
    ]


def test_curly_quotes_are_not_cell_quotes() -> None:
    text = '"MEHL: He said, \u201cyes, sir\u201d, ok.",CRAKE: Hi.,NEXTEPISODE'
    assert read(text)[0] == ("MEHL", 'He said, "yes, sir", ok.', "all#1")
