import io
import json
import re

import pytest

from trek_lm.console.render import JsonPainter, Painter, is_colourful, summary
from trek_lm.generation.api import Generated
from trek_lm.generation.request import Request
from trek_lm.generation.scoring import Score

SPEAKERS = {"KIRK": 30, "SPOCK": 10, "T'PAU": 1}
CODES = re.compile("\033\\[[0-9;]*m")
PLAIN, COLOURED = Painter(SPEAKERS, colourful=False), Painter(SPEAKERS, colourful=True)
JSON = JsonPainter(SPEAKERS, colourful=False)


def test_each_speaker_has_a_colour() -> None:
    kirk, spock = COLOURED.line("KIRK: Yes."), COLOURED.line("SPOCK: Yes.")
    assert CODES.sub("", kirk) == "KIRK: Yes."
    assert CODES.findall(kirk)[0] != CODES.findall(spock)[0]
    assert CODES.findall(kirk)[0] == CODES.findall(COLOURED.line("KIRK: No."))[0]
    assert kirk.endswith("\033[0m")
    assert COLOURED.line("Once upon: a time") == "Once upon: a time"


def test_plain_line_is_unchanged() -> None:
    assert PLAIN.line("KIRK: Yes.") == "KIRK: Yes."


def test_control_characters_are_replaced() -> None:
    assert PLAIN.line("A\033[2J\nB\r\x9b") == "A\ufffd[2J\nB\ufffd\ufffd"
    assert "\033[2J" not in COLOURED.line("KIRK: \033[2J")


@pytest.mark.parametrize("painter", [PLAIN, COLOURED])
def test_joined_stream_equals_lines(painter: Painter) -> None:
    pieces = ["KIRK: ", "Y", "e", "s", "\n", "SPOCK: ", "N", "o", "\n"]
    shown = "".join(painter.stream(pieces))
    assert shown == painter.line("KIRK: Yes") + "\n" + painter.line("SPOCK: No") + "\n"


def test_bits_are_below_their_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    line, *bits = PLAIN.scored(
        Score("A: no", (0.5, 1.25, 7.96, 0.125, 3.0)), show_bits=True
    ).splitlines()
    assert line == "2.567  A: no"
    assert bits == [
        "A     :     \u00b7     n",
        "      0.5   1.2   8.0*",
        "o     \u21b5",
        "0.1   3.0",
    ]
    coloured = COLOURED.scored(Score("ab", (9.0,)), show_bits=True)
    assert CODES.sub("", coloured).split() == ["9.000", "ab", "a", "b", "9.0"]
    assert len(CODES.findall(coloured)) == 4


def test_generated_line_as_json() -> None:
    line = Generated(
        text='KIRK: "\u00e9"',
        speaker="KIRK",
        start="KIRK: ",
        number=3,
        drawn=4,
        log_prob=-2.772588722239781,
        request=Request(seed=5, temperature=0.7),
    )
    shown = JSON.generated(line)
    assert "\n" not in shown
    assert json.loads(shown) == {
        "speaker": "KIRK",
        "text": 'KIRK: "\u00e9"',
        "log_prob": -2.772588722239781,
        "bits_per_char": pytest.approx(1.0),
        "seed": 5,
        "line": 3,
        "temperature": 0.7,
    }


def test_scores_as_json() -> None:
    score = Score("abc", (1.0, 3.0))
    expected = {"text": "abc", "log_prob": pytest.approx(-2.7726, abs=1e-4), "bits_per_char": 2.0}
    assert json.loads(JSON.scored(score)) == expected
    assert json.loads(JSON.scored(score, show_bits=True)) == expected | {"bits": [1.0, 3.0]}
    assert json.loads(JSON.scored(Score("a", ())))["bits_per_char"] is None


def test_summary_is_a_mean_over_characters() -> None:
    scores = [Score("ab", (1.0,)), Score("abcd", (3.0, 3.0, 3.0))]
    assert summary(scores) == "2.500 bits per character, 4 characters in 2 lines"


def test_is_colourful(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert is_colourful(Terminal())
    assert not is_colourful(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_colourful(Terminal())
