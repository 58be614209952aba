import torch
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.data.charset import Charset
from trek_lm.data.encoded import encode
from trek_lm.data.lines import Episode

texts = st.lists(st.text("aB(\xe9\u0416\n", max_size=15), max_size=6)


@given(texts, st.sampled_from(["aB\n", "aBe\n\ufffd", "aBe(\n"]), st.data())
def test_encoded_lines_match_normalised_lines(
    texts: list[str], characters: str, data: st.DataObject
) -> None:
    """Also if the charset drops characters, or a text ends within a line."""
    charset = Charset(characters)
    episodes = [Episode(str(number), text) for number, text in enumerate(texts)]
    lines = [line for text in texts for line in text.splitlines(keepends=True)]
    encoded = encode(episodes, charset)
    found = [
        charset.decode(encoded.text[start : start + length])
        for start, length in zip(encoded.starts.tolist(), encoded.lengths.tolist(), strict=True)
    ]
    assert sum(episode.lines for episode in episodes) == len(lines)
    assert found == [charset.normalise(line) for line in lines]

    chosen = data.draw(st.lists(st.sampled_from(range(len(lines))))) if lines else []
    taken = encoded.take(torch.tensor(chosen, dtype=torch.int64))
    assert charset.decode(taken.joined()) == "".join(found[number] for number in chosen)
    assert [min(2, len(found[n])) for n in chosen] == taken.cut(2).lengths.tolist()


def test_adjacent_lines_are_joined_without_a_copy() -> None:
    encoded = encode([Episode("1", "a\nbb\n"), Episode("2", "ccc\n")], Charset("abc\n"))
    taken = encoded.take(torch.tensor([1, 2]))
    assert taken.joined().data_ptr() == encoded.text.data_ptr() + 2
