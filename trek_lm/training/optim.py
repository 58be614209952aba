"""Optimizers and schedules as `conf/optim` hands them over: unfinished, checked, joined."""

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
MakeSchedule = Callable[[Optimizer, int, int], LRScheduler]  # its steps: of the run, of an epoch


class Joined(Optimizer):
    """Optimizers with parameters of their own, stepped together; their groups and states as one."""

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
        """Lets each work on its part of these groups and this state."""
        at = 0
        for one in self.optimizers:
            count = len(one.param_groups)
            one.param_groups = self.param_groups[at : at + count]
            one.state = self.state
            if isinstance(one, Joined):
                one._share()
            at += count


def check_optimizer(key: str, make: MakeOptimizer, gradient: Tensor) -> None:
    """Raises UserError for an optimizer that can't be made, or not step by such a gradient."""
    weight = nn.Parameter(torch.zeros(1))
    with _named(key, make):
        optimizer = make([weight])
        weight.grad = gradient
        optimizer.step(lambda: 0.0)


def check_schedule(make: MakeSchedule) -> None:
    """Raises UserError for a schedule that can't be made, or whose learning rate is no number."""
    with _named("optim.schedule", make):
        optimizer = SGD([torch.zeros(1)])
        schedule = make(optimizer, 10, 5)
        for _ in range(10):
            optimizer.step()
            schedule.step()
            rate = optimizer.param_groups[0]["lr"]
            if not 0 <= rate < math.inf:
                raise ValueError(f"a learning rate of {rate:g}")


@contextmanager
def _named(key: str, make: Callable[..., object]) -> Iterator[None]:
    """Turns an error inside into a UserError with the key and the values it was made of."""
    try:
        yield
    except Exception as error:
        given = getattr(make, "keywords", {})
        values = ", ".join(f"{key}={value}" for key, value in given.items())
        raise UserError(f"{key}: {error} (given: {values})") from error
