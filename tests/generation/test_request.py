from typing import Any

import pytest

from trek_lm.data.charset import Charset
from trek_lm.errors import UserError
from trek_lm.generation.request import Request

SPEAKERS = {"KIRK": 30, "SPOCK": 10, "T'PAU": 1}


def starts(speakers: dict[str, int] = SPEAKERS, **options: Any) -> list[str]:
    return Request(**options).starts(Charset.writeup(), speakers)


def test_speakers_take_turns_in_any_case() -> None:
    assert starts(speaker=["spock", "T'PAU"], n=3) == ["SPOCK: ", "T'PAU: ", "SPOCK: "]
    assert starts(speaker="kirk", prompt="I'm", n=1) == ["KIRK: I'm"]


def test_speaker_matches_the_name_in_the_files() -> None:
    known = {"CREWMAN 2": 4, "RENE": 1}
    for name in ("CREWMAN 2", "crewman 2", "Crewman #2"):
        assert starts(known, speaker=name, n=1) == ["CREWMAN 2: "]
    assert starts(known, speaker="Ren\u00e9", n=1) == ["RENE: "]


def test_prompt_is_normalised() -> None:
    assert starts(prompt="X: \u00e9", n=2) == ["X: e"] * 2
    assert starts({}, prompt="Once", n=1) == ["Once"]


def test_speakers_are_drawn_in_proportion_to_their_lines() -> None:
    drawn = starts(n=2000, seed=0)
    assert 0.68 < drawn.count("KIRK: ") / 2000 < 0.78  # 30 of 41
    assert drawn.count("T'PAU: ") > 0
    assert drawn[:5] == starts(n=5, seed=0)
    assert drawn != starts(n=2000, seed=1)


def test_starts_are_empty_without_speakers() -> None:
    assert starts({}, n=2) == ["", ""]


def test_force_accepts_any_name() -> None:
    assert starts(speaker="Zaphod", force=True, n=1) == ["Zaphod: "]
    assert starts(speaker="spock", force=True, n=1) == ["SPOCK: "]
    assert starts({}, speaker="HAL", force=True, n=1) == ["HAL: "]
    with pytest.raises(UserError, match=r"speaker: '\u20ac' at position 2"):
        starts(speaker="A\u20ac", force=True)


def test_default_seed_is_random() -> None:
    assert Request().seed != Request().seed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speaker": "SPOK"}, "speaker=SPOK: not in the corpus; similar: SPOCK; force=true"),
        ({"speaker": "Zzz"}, "most frequent: KIRK, SPOCK, T'PAU"),
        ({"speaker": ["KIRK", "nobody"]}, "speaker=nobody"),
        ({"speaker": []}, r"speaker=\[\] is empty"),
        ({"prompt": "KIRK: \u20ac"}, "prompt: '\u20ac' at position 7"),
        ({"prompt": ""}, "prompt= is empty"),
        ({"prompt": "\u0301"}, "prompt= is empty"),  # an accent without a letter
        ({"n": 0}, "n=0: must be greater than or equal to 1"),
        ({"max_chars": 1.5}, "max_chars=1.5"),
        ({"seed": "x"}, "seed=x"),
        ({"n": 10**12}, "n=1000000000000"),
        ({"seed": True}, "seed=True"),
        ({"force": "no"}, "force=no: must be a valid boolean"),
        ({"speaker": "KIRK,SPOCK"}, r"speaker=KIRK,SPOCK: for several .*\[KIRK,SPOCK\]"),
        ({"seed": -1}, "seed=-1: must be greater than or equal to 0"),
        ({"temperature": 0}, "temperature=0"),
        (
            {"speaker": 7},
            "speaker=7: must be a valid string or a",
        ),
    ],
)
def test_invalid_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        starts(**options)


def test_speaker_is_refused_for_a_model_without_speakers() -> None:
    with pytest.raises(UserError, match="speaker=KIRK: this model has no speakers"):
        starts({}, speaker="KIRK")
