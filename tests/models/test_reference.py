from typing import Any

import pytest
import torch

from tests.support.states import tensors
from trek_lm.models.cells import CELLS
from trek_lm.models.reference import Weights, gru_gates, gru_step, lstm_gates, lstm_step

REFERENCES = [of["reference"] for of in CELLS.values() if "reference" in of]


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_reference_keeps_the_dtype(reference: Any, dtype: torch.dtype) -> None:
    module = reference(3, 4, 2).to(dtype)
    outputs, state = module(torch.randn(5, 2, 3, dtype=dtype))
    assert {part.dtype for part in (outputs, *tensors(state))} == {dtype}


@pytest.mark.parametrize("reference", REFERENCES)
def test_dropout_acts_only_between_layers(reference: Any) -> None:
    module, inputs = reference(3, 40, 2, dropout=0.5), torch.randn(5, 2, 3)
    first, second = module(inputs), module(inputs)
    assert not torch.equal(first[0], second[0])
    # Dropout acts neither on the first layer's state nor on the last layer's outputs.
    assert torch.equal(tensors(first[1])[0][0], tensors(second[1])[0][0])
    assert (first[0] != 0).all()
    module.eval()
    assert torch.equal(module(inputs)[0], module(inputs)[0])


def test_lstm_step_by_hand() -> None:
    """One unit with U = 0, so that the input alone sets each gate: sigmoid(ln 3) = 3/4."""
    log3 = torch.tensor(3.0).log().item()
    weights = Weights(torch.tensor([[log3], [-log3], [0.5], [0.0]]), torch.zeros(4, 1))
    x, h, c = torch.ones(1, 1), torch.tensor([[0.3]]), torch.tensor([[2.0]])
    gates = lstm_gates(x, h, weights)
    assert [float(gate) for gate in gates] == pytest.approx([0.75, 0.25, 0.5, 0.46211716])
    h, c = lstm_step(x, (h, c), weights)
    assert float(c) == pytest.approx(0.25 * 2 + 0.75 * 0.46211716)
    assert float(h) == pytest.approx(0.5 * 0.68928269)  # tanh(c)


def test_gru_step_by_hand() -> None:
    log3 = torch.tensor(3.0).log().item()
    weights = Weights(
        torch.tensor([[-log3], [log3], [0.5]]), torch.tensor([[0.0], [0.0], [2.0]])
    )  # r, z, h_hat
    x, h = torch.ones(1, 1), torch.tensor([[0.4]])
    gates = gru_gates(x, h, weights)
    assert [float(gate) for gate in gates] == pytest.approx([0.75, 0.25, 0.60436778])
    (h,) = gru_step(x, (h,), weights)
    assert float(h) == pytest.approx(0.75 * 0.4 + 0.25 * 0.60436778)
