"""The claims of docs/theory.md, one by one; the page names each test."""

import math
import re
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tests.support.commands import PROJECT
from trek_lm.models.cells import CELLS
from trek_lm.models.reference import Weights, gru_gates, gru_step, lstm_gates, lstm_step

SIZE, HIDDEN = 5, 4
seeds = st.integers(0, 2**32 - 1)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def some_weights(gates: int) -> Weights:
    shapes = [(gates * HIDDEN, SIZE), (gates * HIDDEN, HIDDEN), (gates * HIDDEN,)]
    W, U, b = (randn(*shape) for shape in shapes)
    return Weights(W, U, b, torch.zeros_like(b))


# Q2: the LSTM cell


@given(seed=seeds)
def test_q2_1_no_input_is_not_no_change(seed: int) -> None:
    """h changes, and what it becomes depends on h before, through the U's, and on c before."""
    torch.manual_seed(seed)
    nothing, weights = torch.zeros(1, SIZE, dtype=torch.float64), some_weights(4)
    h, c = randn(1, HIDDEN).tanh().requires_grad_(), randn(1, HIDDEN).requires_grad_()
    after, _ = lstm_step(nothing, (h, c), weights)
    assert (after - h).abs().max() > 1e-6
    by_h, by_c = torch.autograd.grad(after.sum(), (h, c))
    assert by_h.abs().max() > 1e-9
    assert by_c.abs().max() > 1e-9


@given(h=st.floats(-1, 1), c=st.floats(-5, 5))
def test_q2_1_not_even_without_weights(h: float, c: float) -> None:
    """All zero: every gate is 1/2 and h becomes tanh(c / 2) / 2, whatever it was."""
    nothing = Weights(torch.zeros(4, 1), torch.zeros(4, 1))
    after, _ = lstm_step(torch.zeros(1, 1), (torch.tensor([[h]]), torch.tensor([[c]])), nothing)
    assert after.item() == pytest.approx(0.5 * math.tanh(c / 2), abs=1e-6)


def gradients_past_a_closed_forget_gate(weights: Weights) -> tuple[Tensor, Tensor]:
    """The error that reaches h and c of the step before, where f is exactly 0."""
    assert weights.b_W is not None
    weights.b_W[HIDDEN : 2 * HIDDEN] = -1e4
    x = randn(1, SIZE)
    h, c = randn(1, HIDDEN).tanh().requires_grad_(), randn(1, HIDDEN).requires_grad_()
    assert not lstm_gates(x, h, weights).f.any()
    shown, remembered = lstm_step(x, (h, c), weights)
    to_h, to_c = torch.autograd.grad(shown.sum() + remembered.sum(), (h, c))
    return to_h, to_c


@given(seed=seeds)
def test_q2_2_through_the_cell_the_error_is_multiplied_by_f(seed: int) -> None:
    torch.manual_seed(seed)
    weights, x, h = some_weights(4), randn(1, SIZE), randn(1, HIDDEN).tanh()
    c = randn(1, HIDDEN).requires_grad_()
    _, after = lstm_step(x, (h, c), weights)
    (to_c,) = torch.autograd.grad(after.sum(), c)
    torch.testing.assert_close(to_c, lstm_gates(x, h, weights).f)


@given(seed=seeds)
def test_q2_2_without_f_the_error_still_passes_through_h(seed: int) -> None:
    torch.manual_seed(seed)
    to_h, to_c = gradients_past_a_closed_forget_gate(some_weights(4))
    assert not to_c.any()
    assert to_h.abs().max() > 1e-9


@given(seed=seeds)
def test_q2_2_without_f_and_u_nothing_passes(seed: int) -> None:
    torch.manual_seed(seed)
    weights = some_weights(4)
    to_h, to_c = gradients_past_a_closed_forget_gate(
        weights._replace(U=torch.zeros_like(weights.U))
    )
    assert not to_h.any()
    assert not to_c.any()


@pytest.mark.parametrize("gate", [0, 2, 3], ids=["i", "c", "o"])
def test_q2_2_each_of_three_ways_is_enough(gate: int) -> None:
    """The write-up names i and o; U^c carries the error too, alone if need be."""
    torch.manual_seed(0)
    weights = some_weights(4)
    only = torch.zeros_like(weights.U)
    rows = slice(gate * HIDDEN, (gate + 1) * HIDDEN)
    only[rows] = weights.U[rows]
    to_h, _ = gradients_past_a_closed_forget_gate(weights._replace(U=only))
    assert to_h.abs().max() > 1e-6


@given(seed=seeds, scale=st.floats(0, 1e3))
def test_q2_3_gates_are_not_negative(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    i, f, o, _ = lstm_gates(scale * randn(7, SIZE), randn(7, HIDDEN), some_weights(4))
    assert all(((gate >= 0) & (gate <= 1)).all() for gate in (i, f, o))


def test_q2_3_in_floating_point_they_may_be_0_or_1() -> None:
    weights = Weights(torch.tensor([[1e4], [-1e4], [0.0], [0.0]]), torch.zeros(4, 1))
    i, f, _, _ = lstm_gates(torch.ones(1, 1), torch.zeros(1, 1), weights)
    assert (i.item(), f.item()) == (1, 0)


def test_q2_3_the_candidate_is_no_gate_and_has_either_sign() -> None:
    torch.manual_seed(0)
    weights, x, h = some_weights(4)._replace(b_W=None, b_U=None), randn(7, SIZE), randn(7, HIDDEN)
    there, back = lstm_gates(x, h, weights).c_hat, lstm_gates(-x, -h, weights).c_hat
    torch.testing.assert_close(there, -back)


def test_q2_4_gates_need_not_sum_to_one() -> None:
    """200 units and no weights: 200 halves are 100."""
    nothing = Weights(torch.zeros(800, 1), torch.zeros(800, 200))
    i, f, o, _ = lstm_gates(torch.ones(1, 1), torch.ones(1, 200), nothing)
    assert [gate.sum().item() for gate in (i, f, o)] == [100, 100, 100]


def test_q2_4_though_they_can() -> None:
    """The write-up calls that impossible, since sigmoid tends to 1: two units, two halves."""
    nothing = Weights(torch.zeros(8, 1), torch.zeros(8, 2))
    i, f, o, _ = lstm_gates(torch.ones(1, 1), torch.ones(1, 2), nothing)
    assert [gate.sum().item() for gate in (i, f, o)] == [1, 1, 1]


# Q3: the GRU cell


def drawn() -> tuple[dict[str, str], dict[str, list[str]]]:
    """The diagram in docs/theory.md: the text of each node, and the nodes with an arrow to it."""
    page = (PROJECT / "docs/theory.md").read_text(encoding="utf-8")
    lines = page.partition("```mermaid\n")[2].partition("```")[0].splitlines()[1:]
    texts: dict[str, str] = {}
    sources: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        texts |= dict(re.findall(r'(\w+)[(\[]+"([^"]+)"', line))
        if arrow := re.match(r"\s*(.+?)(?: -- \S+)? --> (\w+)", line):
            sources[arrow[2]] += re.findall(r"\w+", arrow[1])
    return texts, sources


@given(seed=seeds)
def test_q3_1_the_diagram_is_the_cell(seed: int) -> None:
    """The diagram in docs/theory.md, computed node by node, equals the cell."""
    torch.manual_seed(seed)
    weights = some_weights(3)._replace(b_W=None, b_U=None)
    named = dict(zip(["Wʳ", "Wᶻ", "W"], weights.W.chunk(3), strict=True))
    named |= dict(zip(["Uʳ", "Uᶻ", "U"], weights.U.chunk(3), strict=True))
    vectors = {"x": randn(2, SIZE), "h₋": randn(2, HIDDEN)}
    texts, sources = drawn()

    def value(node: str) -> Tensor:
        text, given = texts[node], [value(source) for source in sources[node]]
        if text in vectors:
            return vectors[text]
        if text == "∘":
            return given[0] * given[1]
        if text == "+":
            return given[0] + given[1]
        if text in ("σ", "tanh", "1 − z", "h"):
            (only,) = given
            sigmoid, tanh = torch.sigmoid(only), torch.tanh(only)
            return {"σ": sigmoid, "tanh": tanh, "1 − z": 1 - only, "h": only}[text]
        products = [product.split() for product in text.split(" + ")]
        assert [texts[source] for source in sources[node]] == [vector for _, vector in products]
        return sum((vectors[v] @ named[m].T for m, v in products), torch.zeros(()))

    (expected,) = gru_step(vectors["x"], (vectors["h₋"],), weights)
    torch.testing.assert_close(value("h1"), expected)


@pytest.mark.parametrize(("z", "kept"), [(1e4, True), (-1e4, False)])
def test_q3_1_z_keeps_the_old_state(z: float, kept: bool) -> None:
    torch.manual_seed(0)
    weights = some_weights(3)
    assert weights.b_W is not None
    weights.b_W[HIDDEN : 2 * HIDDEN] = z
    x, h = randn(1, SIZE), randn(1, HIDDEN)
    (after,) = gru_step(x, (h,), weights)
    assert torch.equal(after, h if kept else gru_gates(x, h, weights).h_hat)


def test_q3_1_where_the_reset_gate_stands_matters() -> None:
    """r after the product with U, as printed and in torch, against r before it (Cho et al.)."""
    torch.manual_seed(0)
    weights = some_weights(3)
    x, h = randn(1, SIZE), randn(1, HIDDEN)
    _, r, h_hat = gru_gates(x, h, weights)
    Wx = functional.linear(x, weights.W, weights.b_W).chunk(3, dim=-1)[2]
    U_h = weights.U.chunk(3)[2]
    torch.testing.assert_close(h_hat, torch.tanh(Wx + r * (h @ U_h.T)))
    assert (h_hat - torch.tanh(Wx + (r * h) @ U_h.T)).abs().max() > 1e-3


@pytest.mark.parametrize("engine", ["torch", "reference"])
def test_q3_2_shapes(engine: str) -> None:
    d_x, d_h = 72, 200
    layer = CELLS["gru"][engine](d_x, d_h)
    W, U = layer.get_parameter("weight_ih_l0"), layer.get_parameter("weight_hh_l0")
    assert [tuple(part.shape) for part in W.chunk(3)] == 3 * [(d_h, d_x)]  # W^r, W^z, W
    assert [tuple(part.shape) for part in U.chunk(3)] == 3 * [(d_h, d_h)]  # U^r, U^z, U


@pytest.mark.parametrize("layers", [1, 3])
def test_q3_3_a_gru_has_three_quarters_of_the_recurrent_parameters(layers: int) -> None:
    lstm, gru = (CELLS[cell]["torch"](72, 200, layers) for cell in ("lstm", "gru"))
    counts = [sum(p.numel() for p in module.parameters()) for module in (lstm, gru)]
    assert counts[1] / counts[0] == 0.75


def test_q3_3_and_of_the_operations() -> None:
    """Counted in one step of each cell."""
    counts = []
    for cell in ("lstm", "gru"):
        layer = CELLS[cell]["reference"](72, 200)
        with FlopCounterMode(display=False) as counter:
            layer(torch.zeros(1, 1, 72))
        counts.append(counter.get_total_flops())
    assert counts[1] / counts[0] == 0.75


@pytest.mark.parametrize(("gate", "arrives"), [(8.0, True), (-8.0, False)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_q3_3_through_an_open_gate_gradients_do_not_vanish(
    cell: str, gate: float, arrives: bool
) -> None:
    """What is remembered after a hundred steps, c or h, by what was remembered before them."""
    torch.manual_seed(0)
    weights = some_weights(4 if cell == "lstm" else 3)
    weights = weights._replace(U=0.1 * weights.U)
    assert weights.b_W is not None
    weights.b_W[HIDDEN : 2 * HIDDEN] = gate  # f, or z
    start = randn(1, HIDDEN).tanh().requires_grad_()
    hidden = remembered = start
    for _ in range(100):
        x = randn(1, SIZE) / 10
        if cell == "lstm":
            hidden, remembered = lstm_step(x, (hidden, remembered), weights)
        else:
            (remembered,) = gru_step(x, (remembered,), weights)
    (gradient,) = torch.autograd.grad(remembered.sum(), start)
    assert (gradient.abs().max() > 0.1) == arrives
    if not arrives:
        assert gradient.abs().max() < 1e-20
