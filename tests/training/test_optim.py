import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim import SGD, Adagrad, AdamW, Optimizer

from trek_lm.training.optim import Joined
from trek_lm.training.schedules import linear


def made() -> tuple[nn.Linear, nn.Embedding]:
    torch.manual_seed(0)
    return nn.Linear(4, 4), nn.Embedding(9, 4, sparse=True)


def optimizers(dense: nn.Module, table: nn.Module) -> list[Optimizer]:
    accumulated = Adagrad(table.parameters(), 0.3, initial_accumulator_value=0.1)
    return [AdamW(dense.parameters(), 0.1), accumulated]


def backward(dense: nn.Linear, table: nn.Embedding, step: int) -> None:
    rows = torch.tensor([step % 9, 3])
    functional.cross_entropy(dense(table(rows)), rows % 4).backward()


def weights(*modules: nn.Module) -> list[torch.Tensor]:
    return [weight.detach().clone() for module in modules for weight in module.parameters()]


def test_joined_optimizers_step_like_separate_ones() -> None:
    apart, together = made(), made()
    each, joined = optimizers(*apart), Joined(optimizers(*together))
    schedules = [linear(one, 20, 5, warmup=0.1, final=0) for one in (*each, joined)]
    for step in range(20):
        for modules, stepped in ((apart, each), (together, [joined])):
            backward(*modules, step)
            for optimizer in stepped:
                optimizer.step()
                optimizer.zero_grad()
        for schedule in schedules:
            schedule.step()
    for one, other in zip(weights(*apart), weights(*together), strict=True):
        assert torch.equal(one, other)
    assert [group["lr"] for group in joined.param_groups] == [0, 0]


def as_they_are(dense: nn.Module, table: nn.Module) -> Joined:
    return Joined(optimizers(dense, table))


def nested(dense: nn.Module, table: nn.Module) -> Joined:
    weight, bias = dense.parameters()
    accumulated = Adagrad(table.parameters(), 0.3, initial_accumulator_value=0.1)
    return Joined([Joined([SGD([weight], 0.1, momentum=0.9), AdamW([bias], 0.1)]), accumulated])


@pytest.mark.parametrize("joined_of", [as_they_are, nested])
def test_joined_state_is_saved_and_loaded(joined_of: Callable[..., Joined]) -> None:
    modules = made()
    joined = joined_of(*modules)
    backward(*modules, 1)
    joined.step()
    joined.zero_grad()
    copies = copy.deepcopy(modules)
    again = joined_of(*copies)
    again.load_state_dict(copy.deepcopy(joined.state_dict()))
    for step in range(2, 5):
        for those, joint in ((modules, joined), (copies, again)):
            backward(*those, step)
            joint.step()
            joint.zero_grad()
    for one, other in zip(weights(*modules), weights(*copies), strict=True):
        assert torch.equal(one, other)


def test_closure_is_called_once() -> None:
    weight = nn.Parameter(torch.ones(1))
    other = nn.Parameter(torch.ones(1))
    calls = []

    def closure() -> float:
        calls.append(1)
        loss = (weight * other).sum()
        loss.backward()
        return float(loss.detach())

    assert Joined([SGD([weight], 1), SGD([other], 0.5)]).step(closure) == 1
    assert (calls, weight.item(), other.item()) == ([1], 0, 0.5)
