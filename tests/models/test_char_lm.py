from typing import Any

import pytest
import torch
from torch import nn

from trek_lm.errors import UserError
from trek_lm.models.cells import CELLS
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.state import detach


@pytest.mark.parametrize(
    ("cell", "engine"), [(cell, engine) for cell, of in CELLS.items() for engine in of]
)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("embedding", ["onehot", 5])
@pytest.mark.parametrize("head", ["linear", "writeup", "factored"])
def test_logits_and_carried_state(
    cell: str, engine: str, layers: int, embedding: int | str, head: str
) -> None:
    model = RecurrentLM(
        72, cell=cell, engine=engine, hidden=6, layers=layers, embedding=embedding, head=head
    ).eval()
    ids = torch.randint(72, (7, 3))
    logits, state = model(ids)
    assert logits.shape == (7, 3, 72)
    assert len(state.recurrent) == (2 if cell == "lstm" else 1)
    assert all(part.shape == (layers, 3, 6) for part in state.recurrent)
    assert state.seen is state.matches is None
    # Two calls with the carried state equal one call.
    first, middle = model(ids[:4])
    second, end = model(ids[4:], detach(middle))
    torch.testing.assert_close(torch.cat([first, second]), logits)
    for one, other in zip(end.recurrent, state.recurrent, strict=True):
        torch.testing.assert_close(one, other)


def test_onehot_embedding_equals_lstm_on_one_hot_vectors() -> None:
    model = RecurrentLM(10, hidden=4)
    assert isinstance(model.recurrent, nn.LSTM)
    ids = torch.randint(10, (5, 2))
    outputs, _ = model.recurrent(nn.functional.one_hot(ids, 10).float())
    torch.testing.assert_close(model(ids)[0], model.head(outputs))


def test_onehot_embedding_is_not_trained() -> None:
    trained = {name for name, p in RecurrentLM(10, hidden=4).named_parameters() if p.requires_grad}
    assert not any(name.startswith("embedding") for name in trained)


def test_writeup_head() -> None:
    head = RecurrentLM(72, hidden=200, head="writeup").head
    assert isinstance(head, nn.Sequential)
    shapes = [tuple(m.weight.shape) for m in head if isinstance(m, nn.Linear)]
    assert shapes == [(200, 200), (72, 200)]
    assert isinstance(head[1], nn.Dropout)
    assert head[1].p == 0.1


def test_factored_head() -> None:
    head = RecurrentLM(72, hidden=200, head="factored", head_rank=5).head
    assert [tuple(weight.shape) for weight in head.parameters()] == [(5, 200), (5,), (72, 5), (72,)]


def test_dropout_acts_only_in_training() -> None:
    model = RecurrentLM(10, hidden=16, dropout=0.5)
    ids = torch.randint(10, (5, 2))
    assert not torch.equal(model(ids)[0], model(ids)[0])
    model.eval()
    assert torch.equal(model(ids)[0], model(ids)[0])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(
    ("options", "history"),
    [({"ngrams": 3}, 2), ({"matches": [1, 4]}, 4), ({"ngrams": 6, "matches": [1, 4]}, 5)],
)
def test_ngrams_and_matches_add_logits_and_carry_state(
    cell: str, options: dict[str, Any], history: int
) -> None:
    model = RecurrentLM(10, cell=cell, hidden=4, **options, ngram_rows=64, match_rows=8).eval()
    plain = RecurrentLM(10, cell=cell, hidden=4).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    ids = torch.randint(10, (30, 2))
    expected, state_of_plain = plain(ids)
    assert torch.equal(model(ids)[0], expected)  # the initial tables and gates add nothing
    seen = torch.cat([torch.zeros(history, 2, dtype=torch.int64), ids + 1])
    table = None
    with torch.no_grad():
        if model.ngrams is not None:
            nn.init.normal_(model.ngrams.table.weight)
            expected = expected + model.ngrams(seen, 30)
        if model.matches is not None:
            nn.init.normal_(model.matches.gates.weight)
            by_matches, table = model.matches(seen, plain.recurrent(plain.embedding(ids))[0])
            assert by_matches.any()
            expected = expected + by_matches
    logits, state = model(ids)
    torch.testing.assert_close(logits, expected)
    for part, other in zip(state.recurrent, state_of_plain.recurrent, strict=True):
        assert torch.equal(part, other)
    assert state.seen is not None
    assert torch.equal(state.seen, seen[-history:])
    if table is None:
        assert state.matches is None
    else:
        assert state.matches is not None
        assert torch.equal(state.matches, table)
    first, middle = model(ids[:4])
    torch.testing.assert_close(torch.cat([first, model(ids[4:], middle)[0]]), logits)


@pytest.mark.parametrize("engine", ["torch", "native", "reference"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_weight_drop_acts_on_recurrent_weights(cell: str, engine: str) -> None:
    """The first step has a zero state, so it doesn't depend on them."""
    model = RecurrentLM(10, cell=cell, engine=engine, hidden=16, embedding=4, weight_drop=0.5)
    ids = torch.randint(10, (5, 2))
    first, second = model(ids)[0], model(ids)[0]
    torch.testing.assert_close(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    first.sum().backward()
    for name, weight in model.recurrent.named_parameters():
        assert weight.grad is not None
        share = (weight.grad == 0).float().mean()
        assert (0.35 < share < 0.65) == name.startswith("weight_hh"), name
    model.eval()
    plain = RecurrentLM(10, cell=cell, engine=engine, hidden=16, embedding=4).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(ids)[0], plain(ids)[0])


def test_weight_drop_needs_recurrent_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class CustomCell(nn.Module):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__()
            self.layers = nn.LSTM(*args, **kwargs)

    monkeypatch.setitem(CELLS, "custom", {"torch": CustomCell})
    RecurrentLM(9, cell="custom")
    with pytest.raises(UserError, match=r"model\.weight_drop=0\.2: model\.cell=custom has no"):
        RecurrentLM(9, cell="custom", weight_drop=0.2)


def test_spec_rebuilds_the_architecture() -> None:
    model = RecurrentLM(
        9, cell="gru", hidden=3, layers=2, embedding=4, head="writeup", ngrams=3, matches=[4]
    )
    RecurrentLM(**model.spec).load_state_dict(model.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "model.hidden=0: must be greater than or equal to 1"),
        ({"hidden": 10**9}, "model.hidden=1000000000"),
        ({"hidden": "many"}, "model.hidden=many"),
        ({"layers": -1}, "model.layers=-1"),
        ({"layers": True}, "model.layers=True"),
        ({"dropout": 1.0}, "model.dropout=1.0: must be less than 1"),
        ({"weight_drop": "much"}, "model.weight_drop=much: must be a valid number"),
        ({"embedding": 0}, "model.embedding=0: .* or 'onehot'"),
        ({"embedding": "twohot"}, "model.embedding=twohot"),
        ({"cell": "rnn"}, "model.cell=rnn: choose lstm or gru"),
        ({"engine": "steam"}, "model.engine=steam: choose torch or native or reference"),
        ({"ngrams": 1}, "model.ngrams=1: must be 0, 2, 3, 4, 5, 6, 7 or 8"),
        ({"ngrams": 9}, "model.ngrams=9: must be 0, 2, 3"),
        ({"ngrams": "many"}, "model.ngrams=many: must be 0, 2, 3"),
        ({"ngram_rows": 1000}, "model.ngram_rows=1000: must be a power of two"),
        ({"ngram_rows": 2**40}, "model.ngram_rows=1099511627776: must be less than"),
        ({"ngram_rows": -2}, "model.ngram_rows=-2: must be greater than"),
        ({"ngram_rows": 1}, "model.ngram_rows=1: must be greater than"),
        ({"ngram_rows": 2.0}, r"model.ngram_rows=2\.0: must be a valid integer"),
        ({"ngram_dropout": 1}, "model.ngram_dropout=1: must be less than 1"),
        (
            {"matches": [4, 99]},
            r"model.matches=\[4, 99\]: must be less than or equal",
        ),
        ({"matches": [0]}, r"model.matches=\[0\]: must be greater than or equal to 1"),
        ({"matches": [4, 4]}, r"model.matches=\[4, 4\]: must all be different"),
        ({"matches": ["4"]}, r"model.matches=\['4'\]: must be a valid integer"),
        ({"matches": [True]}, r"model.matches=\[True\]: must be a valid integer"),
        ({"matches": [*range(1, 10)]}, r"model.matches=\[1, .*\]: List should have at most 8"),
        ({"matches": 4}, "model.matches=4: must be a valid list"),
        ({"matches": "many"}, "model.matches=many: must be a valid list"),
        ({"matches": ""}, "model.matches=: must be a valid list"),
        ({"matches": None}, "model.matches=None: must be a valid list"),
        ({"matches": 4.5}, r"model.matches=4\.5: must be a valid list"),
        ({"matches": {4: 5}}, "model.matches={4: 5}: must be a valid list"),
        ({"match_rows": 3}, "model.match_rows=3: must be a power of two"),
        ({"head": "deep"}, "model.head=deep: must be 'linear', 'writeup' or 'factored'"),
        ({"depth": 3}, "model.depth=3: Unexpected keyword argument"),
    ],
)
def test_invalid_values_name_their_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RecurrentLM(72, **options)
