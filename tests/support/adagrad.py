"""AdaGrad as the write-up prints it, to compare `torch.optim.Adagrad` with."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdaGrad(Optimizer):
    """cache += g^2, then w -= lr / (sqrt(cache) + eps) * g, for each weight separately.

    Duchi, Hazan and Singer 2011; the write-up's Q1, whose eta is `lr`.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                cache = self.state[w].setdefault("cache", torch.zeros_like(w))
                cache += w.grad**2
                w -= group["lr"] / (cache.sqrt() + group["eps"]) * w.grad
        return loss
