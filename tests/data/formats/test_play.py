import re
from pathlib import Path

from trek_lm.data.formats.play import is_play, read_play
from trek_lm.data.lines import Reason
from trek_lm.data.transcripts import read_transcripts

PLAY = """The Harbour, a play

First Keeper:
The light is out, and all
the sea gone dark.

[Enter the captain]

CAPTAIN (aside):
Who keeps (poorly) this lamp?

Second Keeper:

First Keeper:
I do.
"""


def test_speeches_and_skipped_lines() -> None:
    skipped: list[tuple[str, str]] = []
    lines = list(read_play(PLAY, "harbour", lambda *reason: skipped.append(reason)))
    assert [(line.speaker, line.text) for line in lines] == [
        ("FIRST KEEPER", "The light is out, and all the sea gone dark."),
        ("CAPTAIN", "Who keeps this lamp?"),
        ("FIRST KEEPER", "I do."),
    ]
    assert {line.episode for line in lines} == {"harbour"}
    assert skipped == [
        (Reason.ORPHAN, "The Harbour, a play"),
        (Reason.DIRECTION, "[Enter the captain]"),
        (Reason.SILENT, "Second Keeper:"),
    ]


def test_play_is_recognised_by_label_lines() -> None:
    assert is_play(PLAY)
    assert not is_play("KIRK: Yes.\n\nSPOCK: No.\n\nKIRK: Yes.")
    assert not is_play("Cast:\nKIRK and others\n\n[Bridge]\nKIRK: Yes.\nSPOCK: No.\n")
    assert not is_play("Once upon a time.\n\nIt was late:\nvery late.\n\nThe end.\n\nReally.")


def test_tinyshakespeare(real_data: Path) -> None:
    path = real_data / "tinyshakespeare" / "input.txt"
    (episode,), report = read_transcripts(path)
    assert report.formats == {"play": 1}
    # Every paragraph starts with a label; some have no speech.
    assert (
        report.lines + report.skipped[Reason.SILENT] == 7_222 == 1 + path.read_text().count("\n\n")
    )
    assert set(report.skipped) == {Reason.SILENT}
    assert episode.text.startswith(
        "FIRST CITIZEN: Before we proceed any further, hear me speak.\nALL: Speak, speak.\n"
    )
    assert report.speakers["GLOUCESTER"] == len(
        re.findall(r"\n\nGLOUCESTER:\n(?=\S)", path.read_text())
    )
