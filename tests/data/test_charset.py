import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.data.charset import UNKNOWN, Charset, make_charset
from trek_lm.errors import UserError


def test_the_writeup_has_72_characters() -> None:
    charset = Charset.writeup()
    assert len(charset) == 72
    assert charset.unknown_id is None
    assert charset.symbols[charset.newline_id] == "\n"
    assert sum(c.isalpha() for c in charset.symbols) == 52
    assert sum(c.isdigit() for c in charset.symbols) == 10


def test_encode_gives_places_in_the_set() -> None:
    ids = Charset("ab\n").encode("abba\n")
    assert ids.dtype == torch.uint8
    assert ids.tolist() == [0, 1, 1, 0, 2]
    assert Charset("ab\n").encode("").shape == (0,)


@given(st.text(max_size=100))
def test_round_trip_of_the_writeup_charset(text: str) -> None:
    charset = Charset.writeup()
    normal = charset.normalise(text)
    assert charset.decode(charset.encode(text)) == normal
    assert charset.normalise(normal) == normal
    # Read off the definition: decomposed, and what isn't among the 72 dropped.
    decomposed = unicodedata.normalize("NFD", text)
    assert normal == "".join(c for c in decomposed if c in charset.symbols)


@given(st.text(max_size=100))
def test_round_trip_of_a_corpus_charset_keeps_its_own_text(text: str) -> None:
    charset = Charset.of([text])
    composed = unicodedata.normalize("NFC", text)
    if UNKNOWN not in text:
        assert "".join(c for _, c in charset.missing(composed)) == ""
    assert charset.decode(charset.encode(text)) == charset.normalise(text) == composed


def test_a_charset_of_the_whole_text_keeps_every_letter() -> None:
    for text in (
        "\u0439\u043e\u0434 \u0451\u043b\u043a\u0430",
        "\u304c\u304e",
        "Caf\u00e9",
        "Cafe\u0301",
    ):
        charset = make_charset("all", [], [text])
        assert charset.normalise(text) == unicodedata.normalize("NFC", text)
        assert charset.unknown_id is None
        assert set(charset.symbols) == {*unicodedata.normalize("NFC", text), "\n"}
    assert Charset("Cafe\n").normalise("Caf\u00e9") == "Cafe"
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    with pytest.raises(UserError, match=r"data\.charset=all: the corpus has 301 characters"):
        make_charset("all", [], [many])


@given(st.text(max_size=50), st.text(max_size=50))
def test_characters_outside_a_corpus_charset_become_the_unknown_symbol(
    known: str, text: str
) -> None:
    charset = Charset.of([known])
    for symbol in charset.normalise(text):
        assert symbol in charset.symbols
    outside = [c for _, c in charset.missing(text) if len(charset.normalise(c)) == 1]
    assert all(charset.normalise(c) == UNKNOWN for c in outside)


def test_accents_are_stripped() -> None:
    assert Charset.writeup().normalise("Café naïve Ångström") == "Cafe naive Angstrom"


def test_a_large_script_keeps_its_most_frequent_characters() -> None:
    common, rare = "\u4e00", "".join(chr(0x4E01 + i) for i in range(400))
    charset = Charset.of([common * 5 + rare])
    assert len(charset) == 256
    assert common in charset.symbols
    assert charset.normalise(rare[-1]) == UNKNOWN


def test_missing_names_position_and_character() -> None:
    assert Charset.writeup().missing("KIRK: caf\u00e9 \u20ac5") == [(11, "\u20ac")]


def test_what_a_charset_lacks_is_counted_but_accents_are_not() -> None:
    charset = Charset.writeup()
    assert charset.lacks(["KIRK: caf\u00e9 \u20ac5", "5 \u20ac, cafe\u0301\n"]) == 2
    assert charset.lacks(["\u041a\u0418\u0419: \u0418\u0306\n"]) == 4
    assert Charset("\u0439\n").lacks(["\u0438\u0306\n"]) == 0


def test_a_syllable_is_one_unknown_character() -> None:
    """Though Unicode takes it apart into three letters."""
    charset, syllable = Charset.of(["ab"]), "\ud55c"
    assert len(unicodedata.normalize("NFD", syllable)) == 3
    assert charset.normalise(f"a{syllable}{syllable}b") == f"a{UNKNOWN}{UNKNOWN}b"
    assert charset.missing(syllable) == [(0, syllable)]
    assert charset.lacks([syllable * 5]) == 5
    assert Charset("ab\n").normalise(syllable) == ""


def test_what_is_no_charset() -> None:
    for symbols in ("", "ab", "aa\n", "".join(map(chr, range(300)))):
        with pytest.raises(ValueError, match="a charset"):
            Charset(symbols)
