import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.data.charset import UNKNOWN, Charset, make_charset
from trek_lm.errors import UserError


def test_writeup_charset_has_72_characters() -> None:
    charset = Charset.writeup()
    assert len(charset) == 72
    assert charset.unknown_id is None
    assert charset.characters[charset.newline_id] == "\n"
    assert sum(c.isalpha() for c in charset.characters) == 52
    assert sum(c.isdigit() for c in charset.characters) == 10


def test_encode_returns_indices() -> None:
    ids = Charset("ab\n").encode("abba\n")
    assert ids.dtype == torch.uint8
    assert ids.tolist() == [0, 1, 1, 0, 2]
    assert Charset("ab\n").encode("").shape == (0,)


@given(st.text(max_size=100))
def test_writeup_charset_round_trip(text: str) -> None:
    charset = Charset.writeup()
    normal = charset.normalise(text)
    assert charset.decode(charset.encode(text)) == normal
    assert charset.normalise(normal) == normal
    # By definition: decomposed, without the characters that are not among the 72.
    decomposed = unicodedata.normalize("NFD", text)
    assert normal == "".join(c for c in decomposed if c in charset.characters)


@given(st.text(max_size=100))
def test_corpus_charset_round_trip_is_lossless(text: str) -> None:
    charset = Charset.of([text])
    composed = unicodedata.normalize("NFC", text)
    if UNKNOWN not in text:
        assert "".join(c for _, c in charset.missing(composed)) == ""
    assert charset.decode(charset.encode(text)) == charset.normalise(text) == composed


def test_charset_all_keeps_every_character() -> None:
    for text in (
        "\u0439\u043e\u0434 \u0451\u043b\u043a\u0430",
        "\u304c\u304e",
        "Caf\u00e9",
        "Cafe\u0301",
    ):
        charset = make_charset("all", [], [text])
        assert charset.normalise(text) == unicodedata.normalize("NFC", text)
        assert charset.unknown_id is None
        assert set(charset.characters) == {*unicodedata.normalize("NFC", text), "\n"}
    assert Charset("Cafe\n").normalise("Caf\u00e9") == "Cafe"
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    with pytest.raises(UserError, match=r"data\.charset=all: the corpus has 301 characters"):
        make_charset("all", [], [many])


@given(st.text(max_size=50), st.text(max_size=50))
def test_characters_outside_the_charset_become_unknown(known: str, text: str) -> None:
    charset = Charset.of([known])
    for character in charset.normalise(text):
        assert character in charset.characters
    outside = [c for _, c in charset.missing(text) if len(charset.normalise(c)) == 1]
    assert all(charset.normalise(c) == UNKNOWN for c in outside)


def test_accents_are_stripped() -> None:
    assert Charset.writeup().normalise("Café naïve Ångström") == "Cafe naive Angstrom"


def test_charset_keeps_the_most_frequent_characters() -> None:
    common, rare = "\u4e00", "".join(chr(0x4E01 + i) for i in range(400))
    charset = Charset.of([common * 5 + rare])
    assert len(charset) == 256
    assert common in charset.characters
    assert charset.normalise(rare[-1]) == UNKNOWN


def test_missing_returns_position_and_character() -> None:
    assert Charset.writeup().missing("KIRK: caf\u00e9 \u20ac5") == [(11, "\u20ac")]


def test_count_missing_ignores_accents() -> None:
    charset = Charset.writeup()
    assert charset.count_missing(["KIRK: caf\u00e9 \u20ac5", "5 \u20ac, cafe\u0301\n"]) == 2
    assert charset.count_missing(["\u041a\u0418\u0419: \u0418\u0306\n"]) == 4
    assert Charset("\u0439\n").count_missing(["\u0438\u0306\n"]) == 0


def test_hangul_syllable_is_one_unknown_character() -> None:
    """NFD decomposes it into three letters."""
    charset, syllable = Charset.of(["ab"]), "\ud55c"
    assert len(unicodedata.normalize("NFD", syllable)) == 3
    assert charset.normalise(f"a{syllable}{syllable}b") == f"a{UNKNOWN}{UNKNOWN}b"
    assert charset.missing(syllable) == [(0, syllable)]
    assert charset.count_missing([syllable * 5]) == 5
    assert Charset("ab\n").normalise(syllable) == ""


def test_invalid_charsets_are_refused() -> None:
    for characters in ("", "ab", "aa\n", "".join(map(chr, range(300)))):
        with pytest.raises(ValueError, match="a charset"):
            Charset(characters)
