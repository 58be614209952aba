from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from trek_lm.adagrad import AdaGrad


@given(
    lr=st.floats(1e-4, 1.0),
    eps=st.floats(1e-8, 1e-4),
    seed=st.integers(0, 2**32 - 1),
)
def test_torchs_adagrad_is_the_printed_one(lr: float, eps: float, seed: int) -> None:
    """Step by step to 1e-12, in float64, also where a gradient is zero."""
    torch.manual_seed(seed)
    start = torch.randn(5, 3, dtype=torch.float64)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers: list[Any] = [
        AdaGrad([ours], lr=lr, eps=eps),
        torch.optim.Adagrad([theirs], lr=lr, eps=eps),
    ]
    for _ in range(20):
        gradient = torch.randn_like(start) * (torch.rand_like(start) < 0.7)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_two_steps_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = AdaGrad([weight], lr=0.5, eps=0.1)
    for gradient, after in ((3.0, 1 - 0.5 * 3 / 3.1), (4.0, 1 - 0.5 * 3 / 3.1 - 0.5 * 4 / 5.1)):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        assert weight.item() == pytest.approx(after, abs=1e-12)


def test_a_closure_is_called_with_gradients_on() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = AdaGrad([weight], lr=0.5)

    def closure() -> float:
        loss = (weight**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 1.0
    assert weight.item() == pytest.approx(0.5)
    unused = AdaGrad([nn.Parameter(torch.tensor([1.0]))], lr=0.5)
    assert unused.step() is None  # a parameter without a gradient stays
    assert unused.param_groups[0]["params"][0].item() == 1.0
