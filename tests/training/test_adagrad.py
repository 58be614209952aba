"""AdaGrad as printed against torch's, and the claims of docs/theory.md about it (Q1)."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tests.support.adagrad import AdaGrad
from trek_lm.data.charset import Charset
from trek_lm.data.corpora import BundledSource
from trek_lm.data.lines import Reading
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.models.state import detach


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


def test_two_steps_computed_by_hand() -> None:
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


def rates(optimizer: AdaGrad, weight: Tensor, lr: float, eps: float) -> Tensor:
    """Each weight's step size: what its gradient is multiplied by."""
    cache: Tensor = optimizer.state[weight]["cache"]
    return lr / (cache.sqrt() + eps)


def after_gradients(make: Any, gradients: Tensor, **options: float) -> Tensor:
    """The weights, from 0, after a step for each row of gradients."""
    weight = nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer = make([weight], **options)
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
    return weight.detach()


def test_q1_each_weight_has_a_step_size_of_its_own() -> None:
    """Gradients of 1 and 100: SGD's steps are 1 to 100, AdaGrad's first ones both eta."""
    gradients = torch.tensor([[1.0, 100.0]], dtype=torch.float64)
    assert after_gradients(torch.optim.SGD, gradients, lr=0.1).tolist() == pytest.approx(
        [-0.1, -10]
    )
    assert after_gradients(AdaGrad, gradients, lr=0.1).tolist() == pytest.approx([-0.1, -0.1])


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1, 1e4))
def test_q1_the_scale_of_gradients_does_not_matter(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    gradients = torch.randn(20, 3, dtype=torch.float64)
    ours = [after_gradients(AdaGrad, k * gradients, lr=0.1, eps=1e-12) for k in (1, scale)]
    torch.testing.assert_close(ours[0], ours[1], rtol=1e-6, atol=1e-9)
    plain = [after_gradients(torch.optim.SGD, k * gradients, lr=0.1) for k in (1, scale)]
    torch.testing.assert_close(plain[1], scale * plain[0])


def test_q1_rare_directions_stay_fast() -> None:
    """A weight that has a gradient every hundredth step: ten times the step size of the other."""
    weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = AdaGrad([weight], lr=0.1, eps=1e-12)
    gradients = torch.ones(10_000, 2, dtype=torch.float64)
    gradients[:, 1] = (torch.arange(10_000) % 100 == 0).double()
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
    often, rarely = rates(optimizer, weight, 0.1, 1e-12).tolist()
    assert rarely / often == pytest.approx(10)
    # So with a hundredth of the gradients it has come a tenth as far, with SGD a hundredth.
    assert (weight[1] / weight[0]).item() == pytest.approx(0.1, rel=0.1)
    plain = after_gradients(torch.optim.SGD, gradients, lr=0.1)
    assert (plain[1] / plain[0]).item() == pytest.approx(0.01)


def test_q1_step_sizes_of_rare_characters_are_larger_in_the_character_model() -> None:
    """After an LSTM has read an episode: the input weights of a character that came less often.

    A column has a gradient in the steps in which its character is read, and in no other.
    """
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
    seen = Counter[int]()  # in how many steps
    for chunk in tracks.split(32):
        if len(chunk) < 2:
            break
        logits, state = model(chunk[:-1], state)
        state = detach(state)
        optimizer.zero_grad()
        functional.cross_entropy(logits.flatten(0, 1), chunk[1:].flatten()).backward()
        assert weight.grad is not None
        read = chunk[:-1].unique().tolist()
        assert weight.grad.any(0).nonzero()[:, 0].tolist() == read
        seen.update(read)
        optimizer.step()
    by_character = rates(optimizer, weight, 0.05, 1e-8).median(0).values  # (V,)
    ranked = sorted(seen, key=lambda i: seen[i])
    third = len(ranked) // 3
    rare, middle, common = ranked[:third], ranked[third:-third], ranked[-third:]
    sizes = [float(by_character[group].median()) for group in (rare, middle, common)]
    assert sizes[0] > 1.5 * sizes[1]
    assert sizes[1] > 1.5 * sizes[2]
    q, e, space = (float(by_character[charset.characters.index(character)]) for character in "Qe ")
    assert q > 3 * max(e, space)


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
        # It shrinks with every gradient that counts beside what is remembered already.
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
        gradients = -torch.ones(steps, 1, dtype=torch.float64)
        assert after_gradients(torch.optim.SGD, gradients, lr=1.0).item() == pytest.approx(steps)
        ours = after_gradients(AdaGrad, gradients, lr=1.0).item()
        assert ours == pytest.approx(2 * math.sqrt(steps), rel=0.1)
