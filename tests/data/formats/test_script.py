import pytest
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.data.formats.script import LABELS, read_script
from trek_lm.data.lines import Reading, Reason


def read(text: str) -> list[tuple[str, str]]:
    return [(line.speaker, line.text) for line in read_script(text, "one", lambda *_: None)]


def skipped(text: str) -> list[tuple[str, str]]:
    reasons: list[tuple[str, str]] = []
    list(read_script(text, "one", lambda reason, line: reasons.append((reason, line))))
    return reasons


def test_lines_and_skip_reasons_of_an_episode() -> None:
    text = """Episode Number: 7
The Tamarisk Transcripts - The Lantern Tax
The Lantern Tax
Logdate: 1207.3
First shown: 8 Dec
[Bridge]
(The lamps go out.)
MEHL: Count them again.
CRAKE [OC]: There were nine, Captain. (a crash) There are
eight now.

Captain's log, day 12. A quiet night.
"""
    assert read(text) == [
        ("MEHL", "Count them again."),
        ("CRAKE", "There were nine, Captain. There are eight now."),
    ]
    assert [reason for reason, _ in skipped(text)] == [
        *[Reason.HEADER] * 5,
        Reason.SCENE,
        Reason.DIRECTION,
        Reason.LOG,
    ]


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
        ("KIRK: At 12:30: now.", ("KIRK", "At 12:30: now.")),
        ("McCOY: Dammit, Jim.", ("MCCOY", "Dammit, Jim.")),
        ("LaFORGE [OC]: Aye.", ("LAFORGE", "Aye.")),
        ("MAN #1: Here.", ("MAN #1", "Here.")),
        ("THE GREAT BIRD OF THE GALAXY: So.", ("THE GREAT BIRD OF THE GALAXY", "So.")),
        ("KIRK (re: the ship): Well.", ("KIRK", "Well.")),
        ("17. KIRK: Yes.", ("KIRK", "Yes.")),
        ("0017 KIRK: Yes.", ("KIRK", "Yes.")),
        ("00:01:05 KIRK: Yes.", ("KIRK", "Yes.")),
        ("7 OF 9: Yes.", ("7 OF 9", "Yes.")),
        ("SPOCK {on screen}:\tFree.", ("SPOCK", "Free.")),
        ("J\u00dcRGEN \u00c9L\u00c9: Ja.", ("J\u00dcRGEN \u00c9L\u00c9", "Ja.")),
        ("\u0421\u041f\u041e\u041a: \u0414\u0430.", ("\u0421\u041f\u041e\u041a", "\u0414\u0430.")),
    ],
)
def test_labels_and_typing_errors(line: str, expected: tuple[str, str]) -> None:
    assert read(f"[Bridge]\n{line}\n") == [expected]


@pytest.mark.parametrize("line", ["Spock: Yes.", "12: Yes.", "e\u00e9: Yes.", ": Yes."])
def test_not_a_label(line: str) -> None:
    assert read(f"KIRK: Hear this.\n{line}") == [("KIRK", f"Hear this. {line}")]


@pytest.mark.parametrize(
    "line", ["VINA; The planet.", "VINA@ The planet.", "VINA The planet.", "Vina; The planet."]
)
def test_label_without_colon_needs_a_known_speaker(line: str) -> None:
    assert read(f"VINA: Yes.\n{line}") == [("VINA", "Yes."), ("VINA", "The planet.")]
    assert read(f"SPOCK: Yes.\n{line}") == [("SPOCK", f"Yes. {line}")]


@pytest.mark.parametrize("scene", ["[Bridge]", "{Bridge]", "[Bridge}", "Bridge]", "]Bridge]"])
def test_scenes_end_a_speech(scene: str) -> None:
    text = f"KIRK: Yes.\n{scene}\nnobody says this"
    assert read(text) == [("KIRK", "Yes.")]
    assert skipped(text) == [(Reason.SCENE, scene), (Reason.ORPHAN, "nobody says this")]


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
def test_directions_are_removed(direction: str) -> None:
    assert read(f"KIRK: Yes.\n{direction}\nSPOCK: No.") == [("KIRK", "Yes."), ("SPOCK", "No.")]


def test_two_speeches_on_one_line() -> None:
    text = "SULU: Aye.\nKIRK: Engage. SULU: Aye, sir. (nods) KIRK: Good. Note: four: five."
    assert read(text)[1:] == [
        ("KIRK", "Engage."),
        ("SULU", "Aye, sir."),
        ("KIRK", "Good. Note: four: five."),
    ]


def test_label_without_speech_is_skipped() -> None:
    assert skipped("KIRK: (sighs)\nKIRK: Yes.") == [(Reason.SILENT, "KIRK: (sighs)")]
    for text in ("KIRK: (sighs)\nBones.", "KIRK:\nBones.", "KIRK:\n\nBones."):
        assert read(text) == [("KIRK", "Bones.")]
        assert skipped(text) == []


MIXED = """Written by: Somebody
Scene: The kitchen.
Sheldon: So if a photon is directed at 12:30: what then?
Leonard (off): Agreed. Penny [smiling]: Hi!
and hello: again.
Penny: Hello.
Mrs. Hof-Stein and Raj {together}: No. Note: see http://example.org/.
Cut to: later
He said: nothing.
"""


@pytest.mark.parametrize("labels", ["mixed", "any"])
def test_labels_mixed_and_any(labels: str) -> None:
    found = [
        (line.speaker, line.text)
        for line in read_script(MIXED, "one", lambda *_: None, Reading(labels=labels))
    ]
    expected = [
        ("SHELDON", "So if a photon is directed at 12:30: what then?"),
        ("LEONARD", "Agreed."),
        ("PENNY", "Hi! and hello: again."),
        ("PENNY", "Hello."),
        ("MRS. HOF-STEIN AND RAJ", "No. Note: see http://example.org/."),
    ]
    if labels == "any":
        expected[2:3] = [("PENNY", "Hi!"), ("AND HELLO", "again.")]
        expected.append(("HE SAID", "nothing."))
    assert found == expected
    assert read(MIXED) == []


def test_lower_case_labels() -> None:
    lines = read_script("spock: yes.\nkirk: no.", "one", lambda *_: None, Reading(labels="any"))
    assert [(line.speaker, line.text) for line in lines] == [("SPOCK", "yes."), ("KIRK", "no.")]


@given(
    st.text(alphabet=st.sampled_from("AB cd.:;()[]{}\n\r\u00e9'1"), max_size=200),
    st.sampled_from(list(LABELS)),
)
def test_any_text_gives_clean_lines(text: str, labels: str) -> None:
    for line in read_script(text, "one", lambda *_: None, Reading(labels=labels)):
        assert line.text == line.text.strip()
        assert line.speaker == line.speaker.upper()
        assert not set(line.text) & set("()[]{}\n\r")


@pytest.mark.parametrize("labels", ["capitals", "any"])
@pytest.mark.parametrize(
    "line",
    ["A. " * 30_000, "(" * 50_000 + ")" * 50_000, "a" * 100_000, "A " * 50_000, "KIRK: " * 20_000],
)
def test_matching_is_not_quadratic(line: str, labels: str) -> None:
    """With quadratic matching these lines would take hours."""
    list(
        read_script(
            f"KIRK: Yes.\n{line}\nKIRK: {line}", "one", lambda *_: None, Reading(labels=labels)
        )
    )
