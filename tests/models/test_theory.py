"""What `trek_lm/models/THEORY.md` claims, claim by claim; each test is named there."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from trek_lm.adagrad import AdaGrad
from trek_lm.data.charset import Charset
from trek_lm.data.corpora import BundledSource
from trek_lm.data.lines import Reading
from trek_lm.models.cells import Weights, gru_gates, gru_step, lstm_gates, lstm_step
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.recurrent import CELLS

SIZE, HIDDEN = 5, 4
seeds = st.integers(0, 2**32 - 1)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def some_weights(gates: int) -> Weights:
    shapes = [(gates * HIDDEN, SIZE), (gates * HIDDEN, HIDDEN), (gates * HIDDEN,)]
    W, U, b = (randn(*shape) for shape in shapes)  # noqa: N806
    return Weights(W, U, b, torch.zeros_like(b))


# Q1: AdaGrad


def rates(optimizer: AdaGrad, weight: Tensor, lr: float, eps: float) -> Tensor:
    """Each weight's step size: what its gradient is multiplied by."""
    cache: Tensor = optimizer.state[weight]["cache"]
    return lr / (cache.sqrt() + eps)


def test_q1_each_weight_has_a_step_size_of_its_own() -> None:
    """Gradients of 1 and 100: SGD's steps are 1 to 100, AdaGrad's first ones equal."""
    moved = {}
    for make in (torch.optim.SGD, AdaGrad):
        weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        weight.grad = torch.tensor([1.0, 100.0], dtype=torch.float64)
        make([weight], lr=0.1).step()
        moved[make] = (weight[1] / weight[0]).item()
    assert moved[torch.optim.SGD] == pytest.approx(100)
    assert moved[AdaGrad] == pytest.approx(1)


def test_q1_rare_directions_stay_fast() -> None:
    """A weight that has a gradient every hundredth step: ten times the step size of the other."""
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = AdaGrad([weight], lr=0.1, eps=1e-12)
    for step in range(10_000):
        weight.grad = torch.tensor([1.0, float(step % 100 == 0)], dtype=torch.float64)
        optimizer.step()
    often, rarely = rates(optimizer, weight, 0.1, 1e-12).tolist()
    assert rarely / often == pytest.approx(10)
    # So with a hundredth of the gradients it has come a tenth as far, not a hundredth.
    far, near = (-weight).tolist()
    assert near / far == pytest.approx(0.1, rel=0.1)


def test_q1_step_sizes_of_rare_characters_are_larger_in_the_character_model() -> None:
    """After an LSTM has read an episode: the input weights of a character that came less often."""
    text = BundledSource().read(Reading()).episodes[0].text
    charset = Charset.of([text], unknown=False)
    ids = charset.encode(text).long()
    steps = len(ids) // 8
    tracks = ids[: 8 * steps].view(8, steps).T  # (T, 8)
    torch.manual_seed(0)
    model = RecurrentLM(len(charset), hidden=16)
    weight = model.recurrent.get_parameter("weight_ih_l0")  # (4 * 16, V): a column a character
    optimizer = AdaGrad([p for p in model.parameters() if p.requires_grad], lr=0.05)
    state = None
    for chunk in tracks.split(32):
        if len(chunk) < 2:
            break
        logits, state = model(chunk[:-1], state)
        state = (state[0].detach(), state[1].detach())
        optimizer.zero_grad()
        functional.cross_entropy(logits.flatten(0, 1), chunk[1:].flatten()).backward()
        optimizer.step()
    by_character = rates(optimizer, weight, 0.05, 1e-8).mean(0)  # (V,)
    seen = Counter(tracks.flatten().tolist())
    ranked = sorted(seen, key=lambda i: seen[i])
    third = len(ranked) // 3
    rare, middle, common = ranked[:third], ranked[third:-third], ranked[-third:]
    means = [float(by_character[group].mean()) for group in (rare, middle, common)]
    assert means[0] > 1.5 * means[1]
    assert means[1] > 1.5 * means[2]


@given(gradients=st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_q1_step_sizes_never_grow_back(gradients: list[float]) -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = AdaGrad([weight], lr=0.1)
    before = math.inf
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        rate = rates(optimizer, weight, 0.1, 1e-8).item()
        assert rate <= before
        # They shrink with every gradient that counts beside what is remembered already.
        if abs(gradient) > 1e-3:
            assert rate < before
        before = rate


def descend(make: type[torch.optim.Optimizer], lr: float, start: float, steps: int) -> float:
    """Where an optimizer gets to on a cliff of slope 100 left of 0, a slope of 1 right of it."""
    weight = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = make([weight], lr=lr)  # type: ignore[call-arg]
    for _ in range(steps):
        optimizer.zero_grad()
        torch.where(weight < 0, -100 * weight, -weight).sum().backward()
        optimizer.step()
    return weight.item()


def test_q1_a_steep_past_slows_it_down_where_it_is_flat_now() -> None:
    """Both optimizers go down the same gentle slope; one of two AdaGrads came over a cliff.

    The write-up has it that a cache is large where the loss is steep and small where it is flat.
    """
    fresh = descend(AdaGrad, lr=0.1, start=0.0, steps=1000)
    after_a_cliff = descend(AdaGrad, lr=0.1, start=-2.0, steps=1000)
    assert after_a_cliff < fresh / 3
    sgd_fresh = descend(torch.optim.SGD, lr=0.1, start=0.0, steps=1000)
    sgd_after = descend(torch.optim.SGD, lr=0.1, start=-2.0, steps=1000)
    assert sgd_after == pytest.approx(sgd_fresh, rel=0.1)  # it remembers nothing


def test_q1_it_stalls_where_sgd_goes_on() -> None:
    """Under a constant gradient SGD goes t steps in t, AdaGrad about 2 sqrt(t)."""
    for steps in (100, 10_000):
        weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        plain = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        adagrad, sgd = AdaGrad([weight], lr=1.0), torch.optim.SGD([plain], lr=1.0)
        for _ in range(steps):
            weight.grad, plain.grad = -torch.ones_like(weight), -torch.ones_like(plain)
            adagrad.step()
            sgd.step()
        assert plain.item() == pytest.approx(steps)
        assert weight.item() == pytest.approx(2 * math.sqrt(steps), rel=0.1)


# Q2: the LSTM cell


@given(seed=seeds)
def test_q2_1_no_input_is_not_no_change(seed: int) -> None:
    torch.manual_seed(seed)
    h, c = randn(1, HIDDEN).tanh(), randn(1, HIDDEN)
    after, _ = lstm_step(torch.zeros(1, SIZE, dtype=torch.float64), (h, c), some_weights(4))
    assert (after - h).abs().max() > 1e-6


def test_q2_1_not_even_without_weights() -> None:
    """All zero: every gate is 1/2 and h becomes tanh(c / 2) / 2, whatever it was."""
    nothing = Weights(torch.zeros(4, 1), torch.zeros(4, 1))
    h, _ = lstm_step(torch.zeros(1, 1), (torch.tensor([[0.9]]), torch.tensor([[1.0]])), nothing)
    assert h.item() == pytest.approx(0.5 * math.tanh(0.5))


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
    i, f, o, c_hat = lstm_gates(scale * randn(7, SIZE), randn(7, HIDDEN), some_weights(4))
    assert all(((gate >= 0) & (gate <= 1)).all() for gate in (i, f, o))
    if scale > 10:
        assert (c_hat < 0).any()  # what is let in is no gate, and has either sign


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


@given(seed=seeds)
def test_q3_1_the_diagram_is_the_cell(seed: int) -> None:
    """Its boxes and arrows, one by one."""
    torch.manual_seed(seed)
    weights = some_weights(3)
    W, U, b, _ = weights  # noqa: N806
    assert b is not None
    x, h = randn(2, SIZE), randn(2, HIDDEN)
    (W_r, W_z, W_h), (U_r, U_z, U_h) = W.chunk(3), U.chunk(3)  # noqa: N806
    b_r, b_z, b_h = b.chunk(3)
    z = torch.sigmoid(x @ W_z.T + h @ U_z.T + b_z)
    r = torch.sigmoid(x @ W_r.T + h @ U_r.T + b_r)
    h_hat = torch.tanh(x @ W_h.T + r * (h @ U_h.T) + b_h)
    torch.testing.assert_close(gru_step(x, (h,), weights)[0], z * h + (1 - z) * h_hat)


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
    Wx = functional.linear(x, weights.W, weights.b_W).chunk(3, dim=-1)[2]  # noqa: N806
    U_h = weights.U.chunk(3)[2]  # noqa: N806
    torch.testing.assert_close(h_hat, torch.tanh(Wx + r * (h @ U_h.T)))
    assert (h_hat - torch.tanh(Wx + (r * h) @ U_h.T)).abs().max() > 1e-3


@pytest.mark.parametrize("engine", ["torch", "reference"])
def test_q3_2_shapes(engine: str) -> None:
    d_x, d_h = 72, 200
    layer = CELLS["gru"][engine](d_x, d_h)
    W, U = layer.get_parameter("weight_ih_l0"), layer.get_parameter("weight_hh_l0")  # noqa: N806
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
