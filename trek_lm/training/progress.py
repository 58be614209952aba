"""A run on the terminal: a bar with loss, speed and time left, and a line per epoch."""

import logging
import math
import sys
import time
from contextlib import ExitStack
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from trek_lm.data.batching import Batch
from trek_lm.training.lightning_internals import completed_epochs, count_steps
from trek_lm.training.module import CharModule
from trek_lm.training.trainer import chars_per_batch

log = logging.getLogger(__name__)

LAYOUT = "{desc}  {bar} {percentage:3.0f}%  {rate_fmt}  {remaining} left"
REFRESH = 10  # batches between updates of loss and accuracy, which synchronize with a GPU


class Progress(ProgressBar):
    """Shows one bar for the whole run on a terminal; logs a line per epoch everywhere."""

    def __init__(self, epoch_lines: bool = True) -> None:
        """`epoch_lines=False`: the bar only, for a run whose epochs are reported elsewhere."""
        super().__init__()
        self.epoch_lines = epoch_lines
        self._bar: tqdm[Any] | None = None
        self._logs = ExitStack()  # moves log lines above the bar
        self._started = 0.0
        self._first_step = 0
        self._logged_epochs = 0
        self._validated = False  # in the current epoch

    def disable(self) -> None:
        """Lightning calls it on all ranks but the first, which `is_global_zero` covers."""

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        super().on_train_start(trainer, module)
        self._started = time.perf_counter()
        self._first_step = trainer.global_step
        self._logged_epochs = trainer.current_epoch
        if not trainer.is_global_zero or not sys.stdout.isatty():
            return
        steps, epoch_steps = count_steps(trainer)
        epochs, rest = divmod(steps, epoch_steps)
        batches = epochs * trainer.num_training_batches + rest * trainer.accumulate_grad_batches
        total = batches * chars_per_batch(trainer)
        done = int(total * trainer.global_step / steps)
        self._bar = tqdm(
            total=total,
            initial=done,
            unit=" chars",
            unit_scale=True,
            bar_format=LAYOUT,
            leave=False,
            file=sys.stdout,
        )
        self._logs.enter_context(logging_redirect_tqdm())

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        self._log_epoch(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        self._bar.update(batch.characters)
        if batch_idx % REFRESH == 0 and isinstance(module, CharModule):
            loss, accuracy = module.metrics_of("fit").so_far()
            epoch = _epoch(trainer, trainer.current_epoch)
            scores = f"{epoch}  loss {loss:.3f}  acc {accuracy:.3f}"
            self._bar.set_description_str(scores, refresh=False)

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self._log_epoch(trainer)
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _log_epoch(self, trainer: Trainer) -> None:
        """Logs the line of the epoch that just ended, once its metrics are complete."""
        epochs = completed_epochs(trainer)
        if not trainer.is_global_zero or not self.epoch_lines or epochs <= self._logged_epochs:
            return
        self._logged_epochs = epochs
        scores = {key: float(value) for key, value in trainer.callback_metrics.items()}
        parts = [_epoch(trainer, epochs - 1)]
        parts += [
            f"{name} loss {scores[f'{name}/loss']:.3f} acc {scores[f'{name}/acc']:.3f}"
            for name in ("train", *["val"] * self._validated)
            if f"{name}/loss" in scores
        ]
        self._validated = False
        parts.append(f"{scores.get('train/chars_per_second', 0) / 1000:.1f}k chars/s")
        steps_left = trainer.estimated_stepping_batches - trainer.global_step
        if self._bar is None and steps_left > 0:
            steps_here = trainer.global_step - self._first_step  # not those before a resume
            seconds = (time.perf_counter() - self._started) / max(1, steps_here) * steps_left
            parts.append(f"{tqdm.format_interval(seconds)} left")
        log.info("%s", "  ".join(parts))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._logs.close()
            self._bar = None


def _epoch(trainer: Trainer, epoch: int) -> str:
    steps, epoch_steps = count_steps(trainer)
    epochs = math.ceil(steps / epoch_steps)
    return f"epoch {epoch + 1}/{max(epoch + 1, epochs)}"  # the last one may end early
