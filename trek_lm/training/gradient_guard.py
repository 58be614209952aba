"""Prevents steps that would spoil the weights: ends the run, or skips them."""

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
LARGEST = 1e6  # gradient norm; above it the gradient has exploded
PATIENCE = 100  # steps skipped in a row before the run ends


class GradientGuard(Callback):
    """Checks each step's gradient before the optimizer applies it.

    On a CPU the check is immediate. A GPU sets a bad gradient to zero at once, and is synchronized
    to report it at the next logged step only. Such a step still moves the weights, by momentum and
    weight decay.
    """

    def __init__(self, mode: str = "stop") -> None:
        """`mode`: `stop` ends the run with DivergedError at such a step, `skip` skips the step."""
        if mode not in MODES:
            raise UserError(f"callbacks.gradient_guard.mode={mode}: choose {' or '.join(MODES)}")
        self.mode = mode
        self.skipped = 0
        self._in_a_row = 0
        self._waiting: list[tuple[int, float, Tensor]] = []  # not yet checked: step, rate, norm
        self._error: DivergedError | None = None

    def on_before_optimizer_step(
        self, trainer: Trainer, module: LightningModule, optimizer: Optimizer
    ) -> None:
        if trainer.precision == "16-mixed":  # its scaler skips such steps, and must see them
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        values = [g._values() if g.is_sparse else g for g in gradients]
        norm = get_total_norm(values)
        step, rate = trainer.global_step + 1, float(optimizer.param_groups[0]["lr"])
        if self._is_at_hand(norm):
            if not self._accept(step, rate, float(norm)):
                optimizer.zero_grad()  # without gradients a step changes nothing
                _clean_state(module)
            return
        bad = ~(norm <= LARGEST)
        for value in values:
            value.masked_fill_(bad, 0.0)
        if self.mode == "skip":
            _clean_state(module)
        self._waiting.append((step, rate, norm))
        if isinstance(module, CharModule) and module.reports_step():
            self._check_waiting()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.is_last_batch:  # else after the epoch's checkpoint
            self._raise_if_diverged()

    def on_train_epoch_end(self, *_: Any) -> None:
        self._check_waiting()

    def on_train_end(self, *_: Any) -> None:
        self._raise_if_diverged()

    def on_train_epoch_start(self, *_: Any) -> None:
        self._raise_if_diverged()

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._check_waiting()  # the counts below include waiting steps
        checkpoint["guard"] = {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if "guard" in checkpoint and not trainer.testing:  # best.ckpt may be older
            self.skipped = checkpoint["guard"]["skipped"]
            self._in_a_row = checkpoint["guard"]["in_a_row"]

    def _is_at_hand(self, norm: Tensor) -> bool:
        return norm.is_cpu

    def _check_waiting(self) -> None:
        """Synchronizes with the device, and checks the steps since the last time."""
        steps, self._waiting = self._waiting, []
        if steps:
            norms = torch.stack([norm for _, _, norm in steps]).tolist()
            for (step, rate, _), norm in zip(steps, norms, strict=True):
                self._accept(step, rate, norm)

    def _accept(self, step: int, rate: float, norm: float) -> bool:
        """Whether the step may be applied; counts and reports it if not."""
        if norm <= LARGEST:  # false for NaN
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

    def _raise_if_diverged(self) -> None:
        if self._error is not None:
            raise self._error


def _clean_state(module: LightningModule) -> None:
    """Sets non-finite values of the carried state to zero, so that the next loss is finite."""
    if isinstance(module, CharModule) and "fit" in module.states:
        for part in module.states["fit"].recurrent:
            part.nan_to_num_(0.0, 0.0, 0.0)
