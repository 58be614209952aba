"""Learning-rate schedules, stepped once per step of the optimizer.

`conf/optim/*.yaml` names them. Each takes the optimizer, the run's steps and an epoch's steps, and
multiplies the optimizer's learning rate by a factor.
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine(
    optimizer: Optimizer, steps: int, epoch_steps: int, *, warmup: float, final: float
) -> LambdaLR:
    """Linear warm-up over the fraction `warmup` of all steps, then a half cosine to `final`."""

    def decay(progress: float) -> float:
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))

    return _warmup_then(decay, optimizer, steps, warmup)


def linear(
    optimizer: Optimizer, steps: int, epoch_steps: int, *, warmup: float, final: float
) -> LambdaLR:
    """Linear warm-up over the fraction `warmup` of all steps, then linear decay to `final`."""

    def decay(progress: float) -> float:
        return final + (1 - final) * (1 - progress)

    return _warmup_then(decay, optimizer, steps, warmup)


def _warmup_then(
    decay: Callable[[float], float], optimizer: Optimizer, steps: int, warmup: float
) -> LambdaLR:
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup={warmup}: must be a fraction of all steps, from 0 to 1")
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        return decay(min(1.0, (step - rising) / max(1, steps - rising)))

    return LambdaLR(optimizer, factor)


def exponential(optimizer: Optimizer, steps: int, epoch_steps: int, *, gamma: float) -> LambdaLR:
    """Multiplies the learning rate by `gamma` after every epoch; 1 keeps it constant."""
    return LambdaLR(optimizer, lambda step: gamma ** (step // epoch_steps))
