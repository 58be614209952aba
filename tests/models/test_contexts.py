import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.models.contexts import hashes, row_of


def hash_of(characters: list[int]) -> int:
    number = 0
    for character in reversed(characters):
        number = number * 257 + character
    return number * 0x9E3779B97F4A7C15 % 2**64


@given(st.lists(st.integers(0, 256), min_size=5, max_size=40), st.integers(1, 4), st.data())
def test_hashes_are_of_the_last_characters(
    seen: list[int], positions: int, data: st.DataObject
) -> None:
    most = len(seen) - positions + 1
    lengths = data.draw(st.lists(st.integers(1, most), min_size=1, max_size=4, unique=True))
    found = hashes(torch.tensor(seen)[:, None], positions, lengths)
    assert found.shape == (positions, 1, len(lengths))
    for position in range(positions):
        end = len(seen) - positions + position + 1
        expected = [hash_of(seen[end - n : end]) for n in lengths]
        assert [n % 2**64 for n in found[position, 0].tolist()] == expected


def test_columns_are_independent() -> None:
    seen = torch.randint(257, (9, 3))
    whole = hashes(seen, 4, [2, 5])
    for column in range(3):
        assert torch.equal(whole[:, column], hashes(seen[:, column : column + 1], 4, [2, 5])[:, 0])


@pytest.mark.parametrize("rows", [2, 2**10, 2**20])
def test_rows_are_spread_over_the_table(rows: int) -> None:
    seen = torch.arange(4096)[None] // torch.tensor([[1], [64]]) % 64  # every pair of 64
    row = row_of(hashes(seen, 1, [2]), rows).flatten()
    assert row.min() >= 0
    assert row.max() < rows
    assert row.bincount(minlength=rows).max() <= 4 + 2 * 4096 / rows
