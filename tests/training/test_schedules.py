import math
from typing import Any

import pytest
import torch

from trek_lm.training.schedules import cosine, exponential, linear


def rates(schedule: torch.optim.lr_scheduler.LambdaLR, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(float(schedule.get_last_lr()[0]))
        schedule.optimizer.step()
        schedule.step()
    return found


def sgd(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def test_cosine_warms_up_and_decays_to_final() -> None:
    found = rates(cosine(sgd(2.0), 100, 10, warmup=0.1, final=0.01), 101)
    assert found[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert found[55] == pytest.approx(2 * (0.01 + 0.99 * 0.5))
    assert found[100] == pytest.approx(0.02)
    assert found[10:] == sorted(found[10:], reverse=True)


def test_linear_warms_up_and_decays_linearly() -> None:
    found = rates(linear(sgd(2.0), 100, 10, warmup=0.1, final=0.1), 111)
    assert found[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert found[10:101] == pytest.approx([2 - 1.8 * n / 90 for n in range(91)])
    assert found[101:] == pytest.approx([0.2] * 10)


@pytest.mark.parametrize("schedule", [cosine, linear])
def test_schedule_of_one_step(schedule: Any) -> None:
    assert rates(schedule(sgd(1.0), 1, 1, warmup=0.1, final=0.0), 1) == [1.0]


def test_exponential_decays_after_each_epoch() -> None:
    found = rates(exponential(sgd(0.1), 6, 2, gamma=0.95), 6)
    assert found == pytest.approx([0.1 * 0.95 ** math.floor(n / 2) for n in range(6)])


@pytest.mark.parametrize("schedule", [cosine, linear])
@pytest.mark.parametrize("warmup", [-0.1, 3])
def test_warmup_must_be_a_fraction(schedule: Any, warmup: float) -> None:
    with pytest.raises(ValueError, match=f"warmup={warmup}: must be a fraction of all steps"):
        schedule(sgd(1.0), 10, 10, warmup=warmup, final=0.0)
