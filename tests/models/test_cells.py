from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from trek_lm.models.cells import Weights, gru_gates, gru_step, lstm_gates, lstm_step
from trek_lm.models.recurrent import CELLS, State

PAIRS = [(cell, CELLS[cell]["torch"], CELLS[cell]["reference"]) for cell in CELLS]


def tensors(state: State) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def everything(
    module: nn.Module, inputs: Tensor, state: State | None, noise: Tensor
) -> list[Tensor]:
    """Outputs, last state, and the gradient of a random sum of both: input, states, weights."""
    inputs = inputs.clone().requires_grad_()
    starts = [part.clone().requires_grad_() for part in tensors(state)] if state is not None else []
    given = None if state is None else starts[0] if isinstance(state, Tensor) else tuple(starts)
    outputs, end = module(inputs, given)
    loss = (outputs * noise).sum() + sum(part.sin().sum() for part in tensors(end))
    gradients = torch.autograd.grad(loss, [inputs, *starts, *module.parameters()])
    return [outputs, *tensors(end), *gradients]


@pytest.mark.parametrize(("cell", "fast", "reference"), PAIRS)
@given(
    sizes=st.tuples(*[st.integers(1, 6)] * 4),
    layers=st.integers(1, 3),
    with_state=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_forward_and_gradients_are_torchs(
    cell: str, fast: Any, reference: Any, sizes: Any, layers: int, with_state: bool, seed: int
) -> None:
    """In float64, to 1e-10, over random shapes and states; the weights are moved both ways."""
    steps, batch, size, hidden = sizes
    torch.manual_seed(seed)
    there = fast(size, hidden, layers).double()
    here = reference(size, hidden, layers).double()
    here.load_state_dict(there.state_dict())
    there.load_state_dict(here.state_dict())
    inputs = 3 * torch.randn(steps, batch, size, dtype=torch.float64)
    noise = torch.randn(steps, batch, hidden, dtype=torch.float64)
    parts = tuple(torch.randn(layers, batch, hidden, dtype=torch.float64) for _ in range(2))
    state: State | None = None
    if with_state:
        state = parts if cell == "lstm" else parts[0]
    for ours, theirs in zip(
        everything(here, inputs, state, noise), everything(there, inputs, state, noise), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("cell", "fast", "reference"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_any_dtype(cell: str, fast: Any, reference: Any, dtype: torch.dtype) -> None:
    module = reference(3, 4, 2).to(dtype)
    outputs, state = module(torch.randn(5, 2, 3, dtype=dtype))
    assert {part.dtype for part in (outputs, *tensors(state))} == {dtype}


@pytest.mark.parametrize(("cell", "fast", "reference"), PAIRS)
def test_dropout_acts_between_layers(cell: str, fast: Any, reference: Any) -> None:
    module, inputs = reference(3, 40, 2, dropout=0.5), torch.randn(5, 2, 3)
    first, second = module(inputs), module(inputs)
    assert not torch.equal(first[0], second[0])
    # The first layer comes before any dropout, the last one's outputs are not dropped.
    assert torch.equal(tensors(first[1])[0][0], tensors(second[1])[0][0])
    assert (first[0] != 0).all()
    module.eval()
    assert torch.equal(module(inputs)[0], module(inputs)[0])


def test_an_lstm_step_by_hand() -> None:
    """One unit, all logits of a gate given by the input alone: sigmoid(ln 3) = 3/4."""
    log3 = torch.tensor(3.0).log().item()
    weights = Weights(torch.tensor([[log3], [-log3], [0.5], [0.0]]), torch.zeros(4, 1))
    x, h, c = torch.ones(1, 1), torch.tensor([[0.3]]), torch.tensor([[2.0]])
    gates = lstm_gates(x, h, weights)
    assert [float(gate) for gate in gates] == pytest.approx([0.75, 0.25, 0.5, 0.46211716])
    h, c = lstm_step(x, (h, c), weights)
    assert float(c) == pytest.approx(0.25 * 2 + 0.75 * 0.46211716)
    assert float(h) == pytest.approx(0.5 * 0.68928269)  # tanh(c)


def test_a_gru_step_by_hand() -> None:
    log3 = torch.tensor(3.0).log().item()
    weights = Weights(
        torch.tensor([[-log3], [log3], [0.5]]), torch.tensor([[0.0], [0.0], [2.0]])
    )  # r, z, h_hat
    x, h = torch.ones(1, 1), torch.tensor([[0.4]])
    gates = gru_gates(x, h, weights)
    assert [float(gate) for gate in gates] == pytest.approx([0.75, 0.25, 0.60436778])
    (h,) = gru_step(x, (h,), weights)
    assert float(h) == pytest.approx(0.75 * 0.4 + 0.25 * 0.60436778)
