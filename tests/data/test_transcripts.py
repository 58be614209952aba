import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.data.transcripts import (
    DIRECTION,
    HEADER,
    LOG,
    ORPHAN,
    SCENE,
    SILENT,
    Line,
    read_lines,
    read_transcript,
)
from trek_lm.errors import UserError


def read(text: str) -> list[tuple[str, str]]:
    return [(line.speaker, line.text) for line in read_transcript(text, "one", lambda *_: None)]


def skipped(text: str) -> list[tuple[str, str]]:
    reasons: list[tuple[str, str]] = []
    list(read_transcript(text, "one", lambda reason, line: reasons.append((reason, line))))
    return reasons


def test_an_episode() -> None:
    text = """Episode Number: 1
The Star Trek Transcripts - The Cage
Stardate: 3478.2
Original Airdate: 8 Dec, 1967
[Bridge]
(The screen flickers.)
SPOCK: Check the circuit.
TYLER [OC]: All operating, sir. (static) It could be
these meteorites.

Captain's log, stardate 2712.4. A signal.
"""
    assert read(text) == [
        ("SPOCK", "Check the circuit."),
        ("TYLER", "All operating, sir. It could be these meteorites."),
    ]
    assert [reason for reason, _ in skipped(text)] == [*[HEADER] * 4, SCENE, DIRECTION, LOG]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("PIKE : Engage.", ("PIKE", "Engage.")),
        ("BOYCE [OC}: Boyce here.", ("BOYCE", "Boyce here.")),
        ("THARN [on viewscreen: We do not.", ("THARN", "We do not.")),
        ("METRON [OC]:You will.", ("METRON", "You will.")),
        (". SPOCK: Free, Captain?", ("SPOCK", "Free, Captain?")),
        ("MCCOY:: Lucky.", ("MCCOY", "Lucky.")),
        ("(Kirk draws.) KIRK: Yeah.", ("KIRK", "Yeah.")),
        ("[Field] SULU: Sorry.", ("SULU", "Sorry.")),
        ("T'PAU: Thee has power.", ("T'PAU", "Thee has power.")),
        ("NORMAN and ALICES: Yes.", ("NORMAN AND ALICES", "Yes.")),
        ("ALICE 118+2: Do you?", ("ALICE 118+2", "Do you?")),
        ("KIRK: (whispers [low]) Now. (he (Kirk) goes", ("KIRK", "Now.")),
        (
            "KIRK: What\u2019s \u201cthat\u201d\u00a0\u2014 here?",
            ("KIRK", 'What\'s "that" - here?'),
        ),
        ("KIRK: At 12:30: now.", ("KIRK", "At 12:30: now.")),
        ("J\u00dcRGEN \u00c9L\u00c9: Ja.", ("J\u00dcRGEN \u00c9L\u00c9", "Ja.")),
        ("\u0421\u041f\u041e\u041a: \u0414\u0430.", ("\u0421\u041f\u041e\u041a", "\u0414\u0430.")),
    ],
)
def test_labels_and_their_slips(line: str, expected: tuple[str, str]) -> None:
    assert read(f"[Bridge]\n{line}\n") == [expected]


@pytest.mark.parametrize("line", ["Spock: Yes.", "12: Yes.", "e\u00e9: Yes.", ": Yes."])
def test_what_is_no_label(line: str) -> None:
    assert read(f"KIRK: Hear this.\n{line}") == [("KIRK", f"Hear this. {line}")]


@pytest.mark.parametrize(
    "line", ["VINA; The planet.", "VINA@ The planet.", "VINA The planet.", "Vina; The planet."]
)
def test_a_label_without_its_colon_is_read_for_a_speaker_of_the_episode(line: str) -> None:
    assert read(f"VINA: Yes.\n{line}") == [("VINA", "Yes."), ("VINA", "The planet.")]
    assert read(f"SPOCK: Yes.\n{line}") == [("SPOCK", f"Yes. {line}")]


@pytest.mark.parametrize("scene", ["[Bridge]", "{Bridge]", "[Bridge}", "Bridge]", "]Bridge]"])
def test_scenes_end_a_speech(scene: str) -> None:
    text = f"KIRK: Yes.\n{scene}\nnobody says this"
    assert read(text) == [("KIRK", "Yes.")]
    assert skipped(text) == [(SCENE, scene), (ORPHAN, "nobody says this")]


@pytest.mark.parametrize(
    "direction",
    [
        "(He leaves.)",
        "(He leaves.);",
        "(He (the other) leaves.)",
        "(He leaves",
        "(He leaves\nby the door.)",
        "by the door.)",
    ],
)
def test_directions_are_not_spoken(direction: str) -> None:
    assert read(f"KIRK: Yes.\n{direction}\nSPOCK: No.") == [("KIRK", "Yes."), ("SPOCK", "No.")]


def test_two_speeches_on_one_line() -> None:
    text = "SULU: Aye.\nKIRK: Engage. SULU: Aye, sir. (nods) KIRK: Good. Note: four: five."
    assert read(text)[1:] == [
        ("KIRK", "Engage."),
        ("SULU", "Aye, sir."),
        ("KIRK", "Good. Note: four: five."),
    ]


def test_a_label_with_nothing_spoken_is_counted() -> None:
    assert skipped("KIRK: (sighs)\nKIRK: Yes.") == [(SILENT, "KIRK: (sighs)")]
    assert read("KIRK: (sighs)\nBones.") == [("KIRK", "Bones.")]


def test_several_episodes_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "all.txt"
    path.write_text("Episode Number: 1\nA: One.\nEpisode Number: 2\nA: Two.\n")
    lines, report = read_lines(path)
    assert lines == [Line("A", "One.", "all#1"), Line("A", "Two.", "all#2")]
    assert report.episodes == {"all#1", "all#2"}


def test_a_folder_is_read_in_natural_order_whatever_its_listing(tmp_path: Path) -> None:
    names = ["1.txt", "2.txt", "10.txt", "b/3.txt"]
    for name in random.Random(0).sample(names, len(names)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"A: In {name}.")
    (tmp_path / ".hidden.txt").write_text("A: Hidden.")
    (tmp_path / "README.md").write_text("A: Not a transcript.")
    lines, report = read_lines(tmp_path)
    assert [line.text for line in lines] == [f"In {name}." for name in names]
    assert [line.episode for line in lines] == ["1", "2", "10", "b/3"]
    assert (report.files, report.lines, report.speakers) == (4, 4, {"A": 4})
    assert report.characters == sum(len(f"A: In {name}.\n") for name in names)


def test_latin1_is_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_bytes("A: Déjà vu.".encode("latin-1"))
    lines, report = read_lines(tmp_path)
    assert lines[0].text == "Déjà vu."
    assert len(report.warnings) == 1
    assert "1.txt: not UTF-8, read as Latin-1" in report.warnings[0]


def test_a_file_with_few_lines_for_its_size_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("KIRK: Yes.\n\n" + "Prose without speakers, at length.\n" * 100)
    _, report = read_lines(tmp_path)
    assert "only 1 line with a speaker in 3," in report.warnings[0]
    assert "Prose without speakers, at length." in report.warnings[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"KIRK: Yes.\0\0", "not a text file"),
        (bytes(range(256)) * 4, "not a text file"),
        (b"once upon a time", "no line with a speaker"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"bad\.txt: {message}"):
        read_lines(path)


def test_an_empty_file_among_others_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("KIRK: Yes.")
    (tmp_path / "2.txt").write_text("")
    lines, report = read_lines(tmp_path)
    assert len(lines) == 1
    assert report.warnings == [f"{tmp_path / '2.txt'}: the file is empty"]


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        read_lines(tmp_path / "missing")
    with pytest.raises(UserError, match=r"no \.txt transcript"):
        read_lines(tmp_path)


@given(st.text(alphabet=st.sampled_from("AB cd.:;()[]{}\n\r\u00e9'1"), max_size=200))
def test_any_text_gives_clean_lines(text: str) -> None:
    for line in read_transcript(text, "one", lambda *_: None):
        assert line.text == line.text.strip()
        assert line.speaker == line.speaker.upper()
        assert not set(line.text) & set("()[]{}\n\r")


@pytest.fixture(scope="module")
def lines(tos: Path) -> list[Line]:
    return read_lines(tos)[0]


class TestStarTrek:
    """All 79 real transcripts."""

    def test_lines_and_speakers(self, tos: Path) -> None:
        lines, report = read_lines(tos)
        assert report.files == len(report.episodes) == 79
        assert 28_700 <= len(lines) <= 29_000
        assert not report.warnings
        # How often each label stands at the start of a line in the files, slips included.
        assert report.speakers["KIRK"] >= 9_027
        assert report.speakers["SPOCK"] >= 4_535
        assert report.speakers["T'PAU"] == 31
        assert [name for name, _ in report.speakers.most_common(5)] == [
            *("KIRK", "SPOCK", "MCCOY", "SCOTT", "SULU"),
        ]

    def test_no_header_scene_or_direction_among_the_lines(self, lines: list[Line]) -> None:
        spoken = "\n".join(line.text for line in lines)
        for sign in "()[]{}":
            assert sign not in spoken
        for header in ("Star Trek Transcripts", "Original Airdate", "Episode Number", "&gt;"):
            assert header not in spoken
        scenes = {"Bridge", "Corridor", "Transporter room", "Sickbay", "Engineering"}
        labels = {line.speaker for line in lines}
        assert not labels & {scene.upper() for scene in scenes}
        assert not any(line.text in scenes and line.speaker != "KIRK" for line in lines)

    def test_slips_are_read_for_what_was_meant(self, lines: list[Line]) -> None:
        spoken = set(lines)
        for expected in [
            Line("VINA", "The planet's only now becoming able to support life again.", "0001"),
            Line("BOYCE", "Boyce here.", "0001"),
            Line("KELSO", "Small enough to bring it aboard, sir, if you want to risk it.", "0002"),
            Line("KIRK", "Yeah. We'd better get to the glade.", "00017"),
            Line("SULU", "Sorry, DeSalle.", "00025"),
            Line("SPOCK", "Free, Captain?", "00018"),
        ]:
            assert expected in spoken
