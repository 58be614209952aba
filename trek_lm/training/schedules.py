"""Learning-rate schedules, stepped once per step of the optimizer.

Each takes the optimizer, the run's number of steps and the steps of one epoch, and is named in
`conf/optim/*.yaml`; the factor it computes multiplies the optimizer's own learning rate.
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(
    optimizer: Optimizer, steps: int, epoch_steps: int, *, warmup: float, final: float
) -> LambdaLR:
    """Linear warm-up over the share `warmup` of all steps, then a half cosine to `final`."""

    def down(progress: float) -> float:
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return _up_and(down, optimizer, steps, warmup)


def linear(
    optimizer: Optimizer, steps: int, epoch_steps: int, *, warmup: float, final: float
) -> LambdaLR:
    """Linear warm-up over the share `warmup` of all steps, then a straight line to `final`."""

    def down(progress: float) -> float:
        return final + (1 - final) * (1 - progress)

    return _up_and(down, optimizer, steps, warmup)


def _up_and(
    down: Callable[[float], float], optimizer: Optimizer, steps: int, warmup: float
) -> LambdaLR:
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup={warmup}: must be a share of all steps, from 0 to 1")
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return down(min(1.0, (step - rise) / max(1, steps - rise)))

    return LambdaLR(optimizer, factor)


def exponential(optimizer: Optimizer, steps: int, epoch_steps: int, *, gamma: float) -> LambdaLR:
    """Times `gamma` after every epoch; 1 keeps the learning rate as it is."""
    return LambdaLR(optimizer, lambda step: gamma ** (step // epoch_steps))
