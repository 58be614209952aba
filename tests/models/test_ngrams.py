import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from trek_lm.models.ngrams import NGramLogits

VOCAB_SIZE = 7


def filled(longest: int, rows: int = 2**12, dropout: float = 0.0) -> NGramLogits:
    made = NGramLogits(VOCAB_SIZE, longest, rows, dropout)
    torch.nn.init.normal_(made.table.weight)
    return made


def after(made: NGramLogits, ids: list[int]) -> Tensor:
    """The logits `(len(ids), VOCAB_SIZE)` for ids at the start of a line."""
    seen = torch.tensor([0] * made.history + [n + 1 for n in ids])
    logits: Tensor = made(seen[:, None], len(ids))
    return logits[:, 0]


@given(st.integers(2, 8), st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1))
def test_logits_depend_only_on_the_last_characters(longest: int, before: list[int]) -> None:
    last = [n % VOCAB_SIZE for n in range(3, 3 + longest)]
    made = filled(longest)
    assert torch.equal(after(made, before + last)[-1], after(made, last)[-1])


@given(st.integers(2, 4), st.integers(0, 3), st.integers(0, VOCAB_SIZE - 1))
def test_logits_depend_on_each_of_the_last_characters(longest: int, back: int, other: int) -> None:
    ids = [1, 2, 3, 4]
    changed = list(ids)
    changed[3 - back] = other
    made = filled(longest)
    same = torch.equal(after(made, ids)[-1], after(made, changed)[-1])
    assert same == (back >= longest or ids == changed)


def test_line_start_differs_from_every_character() -> None:
    made = filled(2)
    first = after(made, [3])[0]
    assert not any(torch.equal(after(made, [n, 3])[1], first) for n in range(VOCAB_SIZE))


def test_gradient_has_only_the_rows_looked_up() -> None:
    made = filled(3)
    seen = torch.tensor([0, 0, 2, 3])[:, None].expand(4, 2)
    made(seen, 2)[:, :, 0].sum().backward()
    gradient = made.table.weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    gradient = gradient.coalesce()
    assert gradient.values()[:, 0].tolist() == [2] * 4  # 2 columns; 2 positions, 2 lengths
    assert not gradient.values()[:, 1:].any()


def test_dropout_drops_rows_independently_in_training() -> None:
    made = filled(3, dropout=0.5)
    with torch.no_grad():
        made.table.weight.fill_(1.0)
    seen = torch.randint(1, VOCAB_SIZE + 1, (1002, 4))
    values, counts = made(seen, 1000)[:, :, 0].unique(return_counts=True)
    assert values.tolist() == [0, 2, 4]
    assert (counts / 4000).tolist() == pytest.approx([0.25, 0.5, 0.25], abs=0.05)
    made.eval()
    assert (made(seen, 1000) == 2).all()
