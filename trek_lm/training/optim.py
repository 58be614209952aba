"""Partial optimizers and schedules from `conf/optim`: checking them, and joining optimizers."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trek_lm.errors import UserError

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeSchedule = Callable[[Optimizer, int, int], LRScheduler]  # steps: the run's, an epoch's


class Joined(Optimizer):
    """Several optimizers, each with its own parameters, as one with joint groups and state."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for one in self.optimizers for group in one.param_groups], {})
        for one in self.optimizers:
            self.state.update(one.state)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for one in self.optimizers:
            one.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        """Gives each optimizer its slice of the joint groups, and the joint state."""
        at = 0
        for one in self.optimizers:
            count = len(one.param_groups)
            one.param_groups = self.param_groups[at : at + count]
            one.state = self.state
            if isinstance(one, Joined):
                one._share()
            at += count


def check_optimizer(key: str, make: MakeOptimizer, gradient: Tensor) -> None:
    """Raises UserError if the optimizer can't be made, or can't step with such a gradient."""
    weight = nn.Parameter(torch.zeros(1))
    with _named(key, make):
        optimizer = make([weight])
        weight.grad = gradient
        optimizer.step(lambda: 0.0)


def check_schedule(make: MakeSchedule) -> None:
    """Raises UserError if the schedule can't be made, or if a learning rate is out of bounds."""
    with _named("optim.schedule", make):
        optimizer = SGD([torch.zeros(1)])
        schedule = make(optimizer, 10, 5)
        for _ in range(10):
            optimizer.step()
            schedule.step()
            rate = optimizer.param_groups[0]["lr"]
            if not 0 <= rate < math.inf:
                raise ValueError(f"learning rate {rate:g} is negative or not finite")


@contextmanager
def _named(key: str, make: Callable[..., object]) -> Iterator[None]:
    """Turns an error in the block into a UserError with the key and its values."""
    try:
        yield
    except Exception as error:
        given = getattr(make, "keywords", {})
        values = ", ".join(f"{key}={value}" for key, value in given.items())
        raise UserError(f"{key}: {error} (given: {values})") from error
