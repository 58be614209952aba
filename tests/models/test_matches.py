import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trek_lm.models.matches import MatchLogits

VOCAB_SIZE = 3
TEXTS = st.lists(st.integers(0, VOCAB_SIZE - 1), min_size=1, max_size=60)


def match_logits(lengths: list[int], rows: int = 2**12) -> MatchLogits:
    """A match of the k-th length adds 10^k for any outputs."""
    made = MatchLogits(VOCAB_SIZE, 4, lengths, rows)
    with torch.no_grad():
        made.gates.bias.copy_(10.0 ** torch.arange(len(lengths)))
    return made


def after(made: MatchLogits, ids: list[int]) -> Tensor:
    seen = torch.tensor([0] * made.history + [n + 1 for n in ids])[:, None]
    logits: Tensor = made(seen, torch.zeros(len(ids), 1, 4))[0]
    return logits[:, 0]


@settings(max_examples=200)
@given(TEXTS, st.lists(st.integers(1, 6), min_size=1, max_size=3, unique=True))
def test_gate_is_added_to_the_character_that_followed(ids: list[int], lengths: list[int]) -> None:
    expected = torch.zeros(len(ids), VOCAB_SIZE)
    for k, length in enumerate(lengths):
        padded = [-1] * length + ids
        for place in range(len(ids)):
            end = place + length + 1
            last = padded[end - length : end]
            # The previous occurrence with a character after it.
            for start in range(end - length - 1, 0, -1):
                if padded[start : start + length] == last:
                    expected[place, padded[start + length]] += 10.0**k
                    break
    assert torch.equal(after(match_logits(lengths), ids), expected)


@given(TEXTS, TEXTS)
def test_table_is_carried_and_updated_in_place(first: list[int], second: list[int]) -> None:
    made = match_logits([2, 5])
    seen = torch.tensor([0] * 5 + [n + 1 for n in first + second])[:, None].expand(-1, 2)
    outputs = torch.zeros(len(first) + len(second), 2, 4)
    whole, end = made(seen, outputs)
    part, table = made(seen[: 5 + len(first)], outputs[: len(first)])
    rest, after_rest = made(seen[len(first) :], outputs[len(first) :], table)
    assert torch.equal(torch.cat([part, rest]), whole)
    assert torch.equal(after_rest, end)
    assert after_rest is table


def test_columns_have_separate_tables() -> None:
    made = match_logits([2])
    ids = torch.randint(VOCAB_SIZE, (50, 3))
    seen = torch.cat([torch.zeros(2, 3, dtype=torch.int64), ids + 1])
    together, _ = made(seen, torch.zeros(50, 3, 4))
    for column in range(3):
        assert torch.equal(together[:, column], after(made, ids[:, column].tolist()))


def test_row_collision_is_not_a_match() -> None:
    """With only two rows a match may be lost, but none is wrong."""
    few, many = match_logits([4], rows=2), match_logits([4])
    ids = torch.randint(VOCAB_SIZE, (3000,), generator=torch.Generator().manual_seed(0)).tolist()
    found, all_there_is = after(few, ids), after(many, ids)
    assert ((found == 0) | (found == all_there_is)).all()
    assert 0 < found.sum() < all_there_is.sum()


def test_gate_depends_on_the_outputs() -> None:
    made = match_logits([1])
    torch.nn.init.normal_(made.gates.weight)
    outputs = torch.randn(4, 1, 4, requires_grad=True)
    logits, _ = made(torch.tensor([0, 1, 2, 1, 2])[:, None], outputs)
    gates = made.gates(outputs)[:, 0, 0]
    assert torch.equal(
        logits[:, 0], torch.tensor([[0, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]]) * gates[:, None]
    )
    logits.sum().backward()
    assert outputs.grad is not None
    assert outputs.grad.flatten(1).any(1).tolist() == [False, False, True, True]
