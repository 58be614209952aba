import json
from pathlib import Path
from typing import Any

import pytest

from trek_lm.data.lines import Reading
from trek_lm.data.transcripts import read_transcripts
from trek_lm.errors import UserError

# The forms of all_scripts_raw.json (wrapped text, a space before the end of each real line) and of
# all_series_lines.json; the text is ours.
RAW = {
    "DS9": {
        "episode 0": "\n\nThe Deep Harbour Transcripts - Pilot\n\n\n[Bridge]\n\n(Night.) \n"
        "ADA: You will agree, Bran,\nthat orders are difficult? \nBRAN [OC]: No.\n\n"
        "<Back\nto the listing\n\n",
        "episode 1": "ADA: Yes. \n",
    },
    "TOS": {"episode 0": "CARA: Here. \n"},
}
LINES = {
    "DS9": {"episode 0": {"ADA": ["Well. (sits) Now.", " ", "Go."], "BRAN": ["No."]}},
    "TOS": {"episode 0": {"Cara": ["Here."]}, "episode 1": {}},
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "all.json"
    path.write_text(json.dumps(content, indent=2))
    return path


def test_raw_scripts(tmp_path: Path) -> None:
    episodes, report = read_transcripts(write(tmp_path, RAW))
    assert [tuple(episode) for episode in episodes] == [
        ("DS9/episode 0", "ADA: You will agree, Bran, that orders are difficult?\nBRAN: No.\n"),
        ("DS9/episode 1", "ADA: Yes.\n"),
        ("TOS/episode 0", "CARA: Here.\n"),
    ]
    assert report.formats == {"kaggle_raw": 1}
    assert not report.notes


def test_lines_by_character(tmp_path: Path) -> None:
    episodes, report = read_transcripts(write(tmp_path, LINES))
    assert [tuple(episode) for episode in episodes] == [
        ("DS9/episode 0", "ADA: Well. Now.\nADA: Go.\nBRAN: No.\n"),
        ("TOS/episode 0", "CARA: Here.\n"),
    ]
    assert report.formats == {"kaggle_lines": 1}
    assert "this format lacks the order of speeches" in report.notes[0]


def test_quotes_and_line_breaks_in_json_strings(tmp_path: Path) -> None:
    """Escaped or not."""
    speech = "I \u201cdon\u2019t\u201d know.\f BRAN: Yes.\u2028CARA: No."
    for ascii_only in (True, False):
        path = tmp_path / "all.json"
        content = json.dumps({"A": {"e": f"ADA: {speech}"}}, ensure_ascii=ascii_only)
        path.write_text(content, encoding="utf-8")
        (episode,), _ = read_transcripts(path)
        assert episode.text == 'ADA: I "don\'t" know.\nBRAN: Yes.\nCARA: No.\n'


def test_qualifiers_of_characters_are_dropped(tmp_path: Path) -> None:
    content = {"A": {"e": {"Ada [OC]": ["It\u2019s"], "": ["Who?"]}}}
    (episode,), report = read_transcripts(write(tmp_path, content))
    assert episode.text == "ADA: It's\n"
    assert report.skipped == {"text without a speaker": 1}


def test_equal_episode_names_are_numbered(tmp_path: Path) -> None:
    for folder in "abc":
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, {"A": {"e": f"ADA: In {folder}."}})
    episodes, _ = read_transcripts(tmp_path)
    assert [tuple(episode) for episode in episodes] == [
        ("A/e", "ADA: In a.\n"),
        ("A/e (2)", "ADA: In b.\n"),
        ("A/e (3)", "ADA: In c.\n"),
    ]


@pytest.mark.parametrize("content", [RAW, LINES])
def test_series_are_selected(tmp_path: Path, content: Any) -> None:
    path = write(tmp_path, content)
    for series in (("TOS",), ("TOS", "DS9")):
        episodes, _ = read_transcripts(path, Reading(series=series))
        assert list(dict.fromkeys(e.name.partition("/")[0] for e in episodes)) == list(series)


@pytest.mark.parametrize(
    ("text", "reading", "message"),
    [
        (json.dumps(RAW), Reading(series=("ENT",)), r"data\.series=ENT .*it has DS9, TOS"),
        (json.dumps(RAW), Reading("kaggle_lines"), "not the form"),
        (json.dumps(LINES), Reading("kaggle_raw"), "not the form"),
        (json.dumps(RAW)[:-20], Reading(), "not valid JSON"),
        ("[1, 2]", Reading("kaggle_raw"), "not the form"),
        ("[" * 100_000, Reading("kaggle_raw"), "not valid JSON"),
        ('{"TOS": {"e": {"ADA": [1]}}}', Reading(), "must be a list of lines"),
        ("KIRK: Yes.", Reading(series=("TOS",)), "none of these files holds several series"),
    ],
)
def test_invalid_files_are_refused(
    tmp_path: Path, text: str, reading: Reading, message: str
) -> None:
    (tmp_path / "all.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_transcripts(tmp_path / "all.json", reading)


def test_real_transcripts_as_raw_json(tmp_path: Path, tos: Path) -> None:
    """The 79 transcripts in one JSON file have the same lines as in a folder."""
    folder, _ = read_transcripts(tos)
    content = {
        "TOS": {episode.name: (tos / f"{episode.name}.txt").read_text() for episode in folder}
    }
    episodes, _ = read_transcripts(write(tmp_path, content))
    assert [episode.text for episode in episodes] == [episode.text for episode in folder]


def test_duplicate_series_is_read_once(tmp_path: Path) -> None:
    reading = Reading(series=("TOS", "TOS"))
    episodes, _ = read_transcripts(write(tmp_path, RAW), reading)
    assert [episode.name for episode in episodes] == ["TOS/episode 0"]


def test_newline_in_a_character_name(tmp_path: Path) -> None:
    content = {"TOS": {"episode 0": {"CA\nRA": ["Here."]}}}
    (episode,), report = read_transcripts(write(tmp_path, content))
    assert episode.text == "CA RA: Here.\n"
    assert report.lines == episode.lines


def test_unpaired_surrogate_is_replaced(tmp_path: Path) -> None:
    """JSON may contain one, UTF-8 can't; a pair of escapes is one character and stays."""
    content = {"TOS": {"episode 0": {"CARA": ["A \U0001f680 or \ud83d?"]}}}
    (episode,), _ = read_transcripts(write(tmp_path, content))
    assert episode.text == "CARA: A \U0001f680 or \N{REPLACEMENT CHARACTER}?\n"
