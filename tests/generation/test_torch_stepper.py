import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trek_lm.generation import steppers
from trek_lm.generation.steppers import Stepper, steppers_for
from trek_lm.models.char_lm import RecurrentLM

VOCAB_SIZE = 11


def stepper_of(model: RecurrentLM, rows: int) -> Stepper:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steppers, "packed", lambda model: None)
        make, threads = steppers_for(model)
    assert threads == 1
    return make(rows)


def step(stepper: Stepper, ids: Tensor) -> Tensor:
    """Logits after one more character of each line."""
    return torch.from_numpy(stepper.read(ids[None].byte().numpy())[0])


@st.composite
def models(draw: st.DrawFn) -> RecurrentLM:
    torch.manual_seed(draw(st.integers(0, 1000)))
    model = RecurrentLM(
        VOCAB_SIZE,
        cell=draw(st.sampled_from(["lstm", "gru"])),
        engine=draw(st.sampled_from(["torch", "reference"])),
        hidden=draw(st.integers(1, 9)),
        layers=draw(st.integers(1, 3)),
        embedding="onehot" if draw(st.booleans()) else 4,
        head=draw(st.sampled_from(["linear", "writeup", "factored"])),
        dropout=0.5,
        ngrams=draw(st.sampled_from([0, 3])),
        ngram_rows=64,
        matches=draw(st.sampled_from([[], [1], [2, 4]])),
        match_rows=16,
    )
    if model.ngrams is not None:
        torch.nn.init.normal_(model.ngrams.table.weight)
    if model.matches is not None:
        torch.nn.init.normal_(model.matches.gates.weight)
    return model.double()


@given(models(), st.integers(1, 5), st.integers(1, 12))
@settings(max_examples=50)
def test_steps_equal_the_full_forward_pass(model: RecurrentLM, rows: int, steps: int) -> None:
    """Dropout is off in any mode of the model."""
    ids = torch.randint(VOCAB_SIZE, (steps, rows))
    stepper = stepper_of(model, rows)
    stepped = torch.stack([step(stepper, column) for column in ids])
    whole, _ = model.eval()(ids)
    torch.testing.assert_close(stepped, whole, rtol=0, atol=1e-10)
    read = stepper_of(model, rows).read(ids.byte().numpy())
    torch.testing.assert_close(torch.from_numpy(read), whole, rtol=0, atol=1e-10)


@given(models(), st.data())
@settings(max_examples=30)
def test_state_after_a_start_equals_the_full_forward_pass(
    model: RecurrentLM, data: st.DataObject
) -> None:
    start = torch.randint(VOCAB_SIZE, (data.draw(st.integers(1, 9)), 2))
    after = torch.randint(VOCAB_SIZE, (4, 2))
    stepper = stepper_of(model, 2)
    for column in start:
        step(stepper, column)
    stepped = torch.stack([step(stepper, column) for column in after])
    model.eval()
    _, state = model(start)
    torch.testing.assert_close(stepped, model(after, state)[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_restart_and_keep(cell: str) -> None:
    model = RecurrentLM(VOCAB_SIZE, cell=cell, hidden=5, layers=2, ngrams=4, matches=[2])
    model = model.double().eval()
    assert model.ngrams is not None
    torch.nn.init.normal_(model.ngrams.table.weight)
    assert model.matches is not None
    torch.nn.init.normal_(model.matches.gates.weight)
    ids = torch.randint(VOCAB_SIZE, (6, 4))
    stepper = stepper_of(model, 4)
    for column in ids[:3]:
        step(stepper, column)
    stepper.restart([1])
    stepper.keep([3, 1])
    stepped = torch.stack([step(stepper, column) for column in ids[3:, [3, 1]]])
    torch.testing.assert_close(stepped[:, 0], model(ids[:, 3:])[0][3:, 0])
    torch.testing.assert_close(stepped[:, 1], model(ids[3:, 1:2])[0][:, 0])


def test_stepper_copies_the_weights() -> None:
    model = RecurrentLM(VOCAB_SIZE, hidden=5)
    stepper, later = stepper_of(model, 1), stepper_of(model, 1)
    before = step(stepper, torch.tensor([3]))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1)
    assert torch.equal(step(later, torch.tensor([3])), before)
