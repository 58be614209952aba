"""Every engine of a cell against the reference engine."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.support.states import tensors
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


def everything(
    module: nn.Module, inputs: Tensor, state: LayersState | None, noise: Tensor, bf16: bool = False
) -> list[Tensor]:
    """Outputs, last state, and the gradients of a random loss on both: inputs, states, weights."""
    inputs = inputs.clone().requires_grad_()
    starts = [part.clone().requires_grad_() for part in tensors(state)] if state is not None else []
    given = None if state is None else starts[0] if isinstance(state, Tensor) else tuple(starts)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs, end = module(inputs, given)
    loss = (outputs * noise).sum() + sum(part.sin().sum() for part in tensors(end))
    gradients = torch.autograd.grad(loss, [inputs, *starts, *module.parameters()])
    return [outputs, *tensors(end), *gradients]


class Case:
    """The same layers and inputs for an engine and for the reference in float64."""

    def __init__(
        self, cell: str, engine: str, sizes: Any, layers: int, seed: int, scale: float = 3.0
    ) -> None:
        steps, batch, size, hidden = sizes
        torch.manual_seed(seed)
        self.cell = cell
        self.reference = CELLS[cell]["reference"](size, hidden, layers).double()
        self.fast: Any = CELLS[cell][engine](size, hidden, layers).double()
        # In both directions, so that the names and shapes are compared both ways.
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
@pytest.mark.every_build
def test_engine_matches_reference(
    cell: str,
    engine: str,
    dtype: torch.dtype,
    error: float,
    sizes: Any,
    layers: int,
    with_state: bool,
    seed: int,
) -> None:
    """Outputs, states and gradients, to 1e-10 and 1e-5 of the largest number of each tensor."""
    case = Case(cell, engine, sizes, layers, seed)
    for ours, theirs in case.both(dtype, with_state):
        largest = max(1.0, float(theirs.detach().abs().max()))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=error * largest)


@pytest.mark.parametrize(("cell", "engine"), ENGINES)
@settings(max_examples=25)
@cases
@pytest.mark.every_build
def test_engine_matches_reference_under_autocast(
    cell: str, engine: str, sizes: Any, layers: int, with_state: bool, seed: int
) -> None:
    """Each tensor to 5% of its norm: a bfloat16 has eight bits.

    Inputs have unit scale and there are at least eight units: the slope of a saturated gate is a
    difference of rounded numbers, whose error fewer units would not average out.
    """
    native = engine == "native" and library("sequences") is not None
    if cell == "lstm" and not native and not torch_has_bf16_lstm():
        pytest.skip("PyTorch's LSTM has no bfloat16 on this processor")
    steps, batch, size, hidden = sizes
    case = Case(cell, engine, (steps, batch, size, max(8, hidden)), layers, seed, scale=1.0)
    for ours, theirs in case.both(torch.float32, with_state, bf16=True):
        assert (ours - theirs).norm() <= 0.05 * (theirs.norm() + 1)
