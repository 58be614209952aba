import pytest
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.data.formats.registry import FORMATS, choose, read_text
from trek_lm.data.lines import straighten

EXAMPLES = {
    "script": "[Bridge]\nKIRK: Engage, now.\nSPOCK: Captain.\n",
    "csv": "KIRK: Engage, now.,SPOCK: Captain.,NEXTEPISODE",
    "play": "Romeo:\nSoft.\n\nJuliet:\nAy me.\n",
    "html": "<html><body><p>KIRK: Engage.<br>SPOCK: Captain.",
    "kaggle_raw": '{"TOS": {"episode 0": "KIRK: Engage."}}',
    "kaggle_lines": '{"TOS": {}, "TNG": {"episode 0": {"PICARD": ["Engage."]}}}',
}


@pytest.mark.parametrize(("name", "text"), EXAMPLES.items())
def test_format_is_recognised_by_content(name: str, text: str) -> None:
    assert choose(text, "auto") == name
    assert choose(f"\n  {text}", "auto") == name
    assert choose(text, "text") == "text"


def test_text_is_the_only_format_never_recognised() -> None:
    assert set(FORMATS) - set(EXAMPLES) == {"text"}
    assert choose("Once upon a time there was a ship.", "auto") == "script"


@given(st.text("ab:\n \r\u2019\xe9", max_size=50))
def test_text_format_keeps_text_unchanged(text: str) -> None:
    lines = read_text(text, "book", lambda *_: None)
    rendered = "".join(line.render() for line in lines)
    assert rendered == (text if text.endswith("\n") or not text else f"{text}\n")


def test_straighten() -> None:
    fancy = "\ufeff\u2018a\u2019 \u201cb\u201d\xa0\u2013\u2014\u2026\fc\u200bd"
    assert straighten(fancy) == "'a' \"b\" --\u2026\ncd"
    assert straighten("KIRK: Yes.\fSPOCK: No.") == "KIRK: Yes.\nSPOCK: No."
