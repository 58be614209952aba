"""Every engine of a cell against the equations."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from trek_lm.models.cells import CELLS
from trek_lm.models.native.build import library
from trek_lm.models.state import LayersState
from trek_lm.training.hardware import torch_has_bf16_lstm

ENGINES = [
    (cell, engine)
    for cell, of in CELLS.items()
    for engine in of
    if "reference" in of and engine != "reference"
]


def tensors(state: LayersState) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else list(state)


def everything(
    module: nn.Module, inputs: Tensor, state: LayersState | None, noise: Tensor, bf16: bool = False
) -> list[Tensor]:
    """Outputs, last state, and the gradient of a random sum of both: input, states, weights."""
    inputs = inputs.clone().requires_grad_()
    starts = [part.clone().requires_grad_() for part in tensors(state)] if state is not None else []
    given = None if state is None else starts[0] if isinstance(state, Tensor) else tuple(starts)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs, end = module(inputs, given)
    loss = (outputs * noise).sum() + sum(part.sin().sum() for part in tensors(end))
    gradients = torch.autograd.grad(loss, [inputs, *starts, *module.parameters()])
    return [outputs, *tensors(end), *gradients]


class Case:
    """Layers and what goes into them, by an engine in a precision and by the equations."""

    def __init__(
        self, cell: str, engine: str, sizes: Any, layers: int, seed: int, scale: float = 3.0
    ) -> None:
        steps, batch, size, hidden = sizes
        torch.manual_seed(seed)
        self.cell = cell
        self.reference = CELLS[cell]["reference"](size, hidden, layers).double()
        self.fast: Any = CELLS[cell][engine](size, hidden, layers).double()
        # The weights are moved both ways.
        self.reference.load_state_dict(self.fast.state_dict())
        self.fast.load_state_dict(self.reference.state_dict())
        self.inputs = scale * torch.randn(steps, batch, size, dtype=torch.float64)
        self.noise = torch.randn(steps, batch, hidden, dtype=torch.float64)
        self.start = [torch.randn(layers, batch, hidden, dtype=torch.float64) for _ in range(2)]

    def both(
        self, dtype: torch.dtype, with_state: bool, bf16: bool = False
    ) -> list[tuple[Tensor, Tensor]]:
        found = []
        for module, kind in ((self.fast.to(dtype), dtype), (self.reference, torch.float64)):
            parts = tuple(part.to(kind) for part in self.start)
            state: LayersState | None = None
            if with_state:
                state = parts if self.cell == "lstm" else parts[0]
            given = (self.inputs.to(kind), state, self.noise.to(kind))
            found.append(everything(module, *given, bf16 and kind == dtype))
        return [(ours.double(), theirs) for ours, theirs in zip(*found, strict=True)]


sizes = st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 40), st.integers(1, 70))
cases = given(
    sizes=sizes,
    layers=st.integers(1, 3),
    with_state=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)


@pytest.mark.parametrize(("cell", "engine"), ENGINES)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@settings(max_examples=25)
@cases
def test_forward_and_gradients_are_the_equations(
    cell: str,
    engine: str,
    dtype: torch.dtype,
    error: float,
    sizes: Any,
    layers: int,
    with_state: bool,
    seed: int,
) -> None:
    """To 1e-10 and 1e-5 of the largest number of each, over random shapes and states."""
    case = Case(cell, engine, sizes, layers, seed)
    for ours, theirs in case.both(dtype, with_state):
        largest = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=error * largest)


@pytest.mark.parametrize(("cell", "engine"), ENGINES)
@settings(max_examples=25)
@cases
def test_under_autocast_they_are_as_close_as_bfloat16_is(
    cell: str, engine: str, sizes: Any, layers: int, with_state: bool, seed: int
) -> None:
    """Each to five hundredths of its norm: a bfloat16 has eight bits.

    Inputs of unit scale and at least eight units: what is left of a saturated gate's slope is a
    difference of rounded numbers, and a single unit has no others to average it with.
    """
    native = engine == "native" and library("sequences") is not None
    if cell == "lstm" and not native and not torch_has_bf16_lstm():
        pytest.skip("PyTorch's LSTM can't on this processor")
    steps, batch, size, hidden = sizes
    case = Case(cell, engine, (steps, batch, size, max(8, hidden)), layers, seed, scale=1.0)
    for ours, theirs in case.both(torch.float32, with_state, bf16=True):
        assert (ours - theirs).norm() <= 0.05 * (theirs.norm() + 1)
