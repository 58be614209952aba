import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trek_lm.errors import UserError
from trek_lm.models import ngrams
from trek_lm.models.ngrams import NGramLogits

SYMBOLS = 7


def filled(longest: int, rows: int = 2**12) -> NGramLogits:
    made = NGramLogits(SYMBOLS, longest, rows)
    torch.nn.init.normal_(made.tables.weight)
    return made


@given(st.integers(2, ngrams.LONGEST), st.lists(st.integers(0, SYMBOLS - 1), min_size=1))
def test_logits_are_by_the_last_characters_alone(longest: int, before: list[int]) -> None:
    last = [n % SYMBOLS for n in range(3, 3 + longest)]
    made = filled(longest)
    alone, after = made(torch.tensor(last)[:, None])
    later, after_more = made(torch.tensor(before + last)[:, None])
    assert torch.equal(later[-1], alone[-1])
    assert torch.equal(after_more, after)
    assert after.squeeze(1).tolist() == [n + 1 for n in last[1:]]


@given(st.integers(2, 4), st.integers(0, 3), st.integers(0, SYMBOLS - 1))
def test_every_one_of_them_counts(longest: int, back: int, other: int) -> None:
    ids = torch.tensor([1, 2, 3, 4])[:, None]
    changed = ids.clone()
    changed[3 - back] = other
    made = filled(longest)
    same = torch.equal(made(ids)[0][-1], made(changed)[0][-1])
    assert same == (back >= longest or torch.equal(ids, changed))


def test_nothing_before_is_unlike_any_character() -> None:
    made = filled(2)
    first, _ = made(torch.tensor([[3]]))
    assert not any(torch.equal(made(torch.tensor([[n], [3]]))[0][1], first[0]) for n in range(7))


@given(st.integers(2, 6), st.integers(0, 9))
def test_the_history_carries_on(longest: int, cut: int) -> None:
    made = filled(longest)
    ids = torch.randint(SYMBOLS, (9, 3))
    whole, end = made(ids)
    first, history = made(ids[:cut])
    second, after = made(ids[cut:], history)
    assert torch.equal(torch.cat([first, second]), whole)
    assert torch.equal(after, end)


def test_the_gradient_has_the_rows_that_were_looked_up() -> None:
    made = filled(3)
    logits, _ = made(torch.tensor([[1, 1], [2, 2]]))
    logits[:, :, 0].sum().backward()
    gradient = made.tables.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    gradient = gradient.coalesce()
    assert gradient.values()[:, 0].tolist() == [2] * 4  # both columns, two places, two lengths
    assert not gradient.values()[:, 1:].any()
    assert (gradient.indices()[0] < 2**12).sum() == 2


def test_ngrams_are_spread_over_a_table() -> None:
    made = filled(2, rows=2**10)
    ids = torch.randint(256, (2, 2000), generator=torch.Generator().manual_seed(0))
    made = NGramLogits(1, 2, 2**10)
    with torch.no_grad():
        made.tables.weight[:, 0] = torch.arange(2**10)
    hits = made(ids)[0][1].flatten().int().bincount(minlength=2**10)
    assert hits.max() < 12  # 2 each on average
    assert (hits > 0).float().mean() > 0.8


@pytest.mark.parametrize(
    ("longest", "rows", "message"),
    [
        (1, 4, "model.ngrams=1: must be 0 for none, or the longest, from 2 to 8"),
        (9, 4, "model.ngrams=9: must be"),
        ("many", 4, "model.ngrams=many: must be"),
        (3, 1000, "model.ngram_rows=1000: must be a power of two"),
        (3, 2**40, "model.ngram_rows=1099511627776: must be"),
        (3, -2, "model.ngram_rows=-2: must be"),
    ],
)
def test_what_is_wrong_names_its_key(longest: object, rows: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}"):
        ngrams.check(longest, rows)


def test_nothing_is_wrong() -> None:
    ngrams.check(0, 2**16)
    ngrams.check(8, 2)
