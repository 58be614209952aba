"""Steps that would spoil the weights are not made; the run ends there, or goes on without them."""

import logging
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from trek_lm.errors import DivergedError, UserError
from trek_lm.training.module import CharModule

log = logging.getLogger(__name__)

MODES = ("stop", "skip")
LARGEST = 1e6  # of a gradient's norm: what is above has exploded
PATIENCE = 100  # steps skipped one after the other: more would help no more


class GradientGuard(Callback):
    """Looks at each step's gradient before the weights are changed by it.

    On a CPU at once. On a GPU, which is waited for only where a step is logged, such a gradient
    is made zero there and told of later; with a zero gradient the weights still move, by what an
    optimizer remembers of those before and by weight decay.
    """

    def __init__(self, mode: str = "stop") -> None:
        """`mode`: whether such a step is the end of the run, with DivergedError, or skipped."""
        if mode not in MODES:
            raise UserError(f"callbacks.gradient_guard.mode={mode}: choose {' or '.join(MODES)}")
        self.mode = mode
        self.skipped = 0
        self._in_a_row = 0
        self._waiting: list[tuple[int, float, Tensor]] = []  # not yet looked at: step, rate, norm
        self._error: DivergedError | None = None

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer
    ) -> None:
        if trainer.precision == "16-mixed":  # its scaler does the same, and counts on it
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        values = [g._values() if g.is_sparse else g for g in gradients]
        norm = get_total_norm(values)
        step, rate = trainer.global_step + 1, float(optimizer.param_groups[0]["lr"])
        if self._is_at_hand(norm):
            if not self._judge(step, rate, float(norm)):
                optimizer.zero_grad()  # without gradients a step leaves all as it is
                _forget(module)
            return
        bad = ~(norm <= LARGEST)
        for value in values:
            value.masked_fill_(bad, 0.0)
        if self.mode == "skip":
            _forget(module)
        self._waiting.append((step, rate, norm))
        if isinstance(module, CharModule) and module.reports_step():
            self._look()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.is_last_batch:  # then the epoch's own checkpoint is waited for
            self._leave()

    def on_train_epoch_end(self, *_: Any) -> None:
        self._look()

    def on_train_end(self, *_: Any) -> None:
        self._leave()

    def on_train_epoch_start(self, *_: Any) -> None:
        self._leave()

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._look()  # else steps that wait to be looked at would not be counted
        checkpoint["guard"] = {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if "guard" in checkpoint and not trainer.testing:  # what is tested may be of earlier
            self.skipped = checkpoint["guard"]["skipped"]
            self._in_a_row = checkpoint["guard"]["in_a_row"]

    def _is_at_hand(self, norm: Tensor) -> bool:
        return norm.is_cpu

    def _look(self) -> None:
        """Waits for the device, and judges the steps since the last time."""
        steps, self._waiting = self._waiting, []
        if steps:
            norms = torch.stack([norm for _, _, norm in steps]).tolist()
            for (step, rate, _), norm in zip(steps, norms, strict=True):
                self._judge(step, rate, norm)

    def _judge(self, step: int, rate: float, norm: float) -> bool:
        """Whether this step may be made; if not it is told of."""
        if norm <= LARGEST:  # not so for no number
            self._in_a_row = 0
            return True
        self.skipped += 1
        self._in_a_row += 1
        what = f"step {step}, gradient norm {norm:.3g}, learning rate {rate:.3g}"
        if self.mode == "skip" and self._in_a_row <= PATIENCE:
            log.warning("skipped %s", what)
        elif self._error is None:
            hint = "" if self.mode == "skip" else ", or callbacks.gradient_guard.mode=skip"
            self._error = DivergedError(f"training diverged ({what}): try a smaller optim.lr{hint}")
        return False

    def _leave(self) -> None:
        if self._error is not None:
            raise self._error


def _forget(module: LightningModule) -> None:
    """Takes what is no number out of the carried state: the next loss must not have it."""
    if isinstance(module, CharModule) and "fit" in module.states:
        for part in module.states["fit"].recurrent:
            part.nan_to_num_(0.0, 0.0, 0.0)
