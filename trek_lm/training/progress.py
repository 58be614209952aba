"""What a run shows on the terminal: a bar with loss, speed and time left, a line an epoch."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBar
from rich.text import Text

from trek_lm.data.batching import Batch
from trek_lm.errors import check_whole
from trek_lm.training.lightning_internals import completed_epochs, count_steps
from trek_lm.training.module import CharModule
from trek_lm.training.trainer import chars_per_batch

log = logging.getLogger(__name__)


class Progress(ProgressBar):
    """On a terminal one bar for the whole run; everywhere a line logged for each epoch."""

    def __init__(self, refresh_every: int = 10, epoch_lines: bool = True) -> None:
        """`refresh_every`: batches between two looks at loss and accuracy. Without `epoch_lines`
        there is the bar alone, for a run whose epochs are reported otherwise. Raises UserError
        for a number out of range.
        """
        super().__init__()
        check_whole("callbacks.progress.refresh_every", refresh_every, 1)
        self.epoch_lines = epoch_lines
        self.refresh_every = refresh_every
        self._console = Console()
        self._enabled = True  # Lightning disables all but the first rank's
        self._bar: RichBar | None = None
        self._started = 0.0
        self._first_step = 0
        self._announced = 0
        self._validated = False  # in the epoch under way

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._started = time.perf_counter()
        self._first_step = trainer.global_step
        self._announced = trainer.current_epoch
        if not self._enabled or not self._console.is_terminal or self._console.is_dumb_terminal:
            return
        self._bar = RichBar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[scores]}"),
            _SpeedColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=self._console,
            transient=True,
        )
        steps, epoch_steps = count_steps(trainer)
        epochs, rest = divmod(steps, epoch_steps)
        batches = epochs * trainer.num_training_batches + rest * trainer.accumulate_grad_batches
        total = batches * chars_per_batch(trainer)
        done = int(total * trainer.global_step / steps)
        self._bar.add_task("", total=total, completed=done, scores="")
        self._bar.start()

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self._announce(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        if self._bar is None:
            return
        task = self._bar.task_ids[0]
        self._bar.advance(task, batch.characters)
        if batch_idx % self.refresh_every == 0 and isinstance(pl_module, CharModule):
            loss, accuracy = pl_module.metrics_of("fit").so_far()
            self._bar.update(
                task,
                description=_epoch(trainer, trainer.current_epoch),
                scores=f"loss {loss:.3f}  acc {accuracy:.3f}",
            )

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._announce(trainer)
        self._close()

    def on_exception(self, *_: Any) -> None:
        self._close()

    def _announce(self, trainer: pl.Trainer) -> None:
        """Logs the line of the epoch that has just ended: its metrics are all there by now."""
        epochs = completed_epochs(trainer)
        if not self._enabled or not self.epoch_lines or epochs <= self._announced:
            return
        self._announced = epochs
        scores = {key: float(value) for key, value in trainer.callback_metrics.items()}
        parts = [_epoch(trainer, epochs - 1)]
        parts += [
            f"{name} loss {scores[f'{name}/loss']:.3f} acc {scores[f'{name}/acc']:.3f}"
            for name in ("train", *["val"] * self._validated)
            if f"{name}/loss" in scores
        ]
        self._validated = False
        parts.append(f"{scores.get('train/chars_per_second', 0) / 1000:.1f}k chars/s")
        if self._bar is None and trainer.estimated_stepping_batches > trainer.global_step:
            steps_here = trainer.global_step - self._first_step  # a resumed run has done others
            seconds_per_step = (time.perf_counter() - self._started) / max(1, steps_here)
            left = seconds_per_step * (trainer.estimated_stepping_batches - trainer.global_step)
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        with self.out_of_the_way():
            log.info("%s", "  ".join(parts))

    @contextmanager
    def out_of_the_way(self) -> Iterator[None]:
        """No bar meanwhile: what is logged goes to the terminal, where the bar would be."""
        if self._bar is not None:
            self._bar.stop()
        yield
        if self._bar is not None:
            self._bar.start()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class _SpeedColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed / 1000:.1f}k chars/s" if speed else "")


def _epoch(trainer: pl.Trainer, epoch: int) -> str:
    steps, epoch_steps = count_steps(trainer)
    epochs = math.ceil(steps / epoch_steps)
    return f"epoch {epoch + 1}/{max(epoch + 1, epochs)}"  # one that ended early counts too
