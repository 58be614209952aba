"""`budget=60s`: how many steps a run can make in that time, measured before it begins.

The number is fixed then and the learning-rate schedule made for it, so that a run with
`trainer.max_steps=` the same is the same run, on a slower machine too.
"""

import math
import re
import time
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback

from trek_lm.data.batching import Batch
from trek_lm.errors import UserError

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def seconds_of(budget: object) -> float:
    """The seconds of `60s`, `20m`, `1.5h` or a plain number of seconds.

    Raises UserError for anything else, and for no time at all.
    """
    given = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", str(budget).strip())
    seconds = float(given[1]) * UNITS[given[2]] if given else 0.0
    if not 0 < seconds < math.inf:
        raise UserError(f"budget={budget}: give a time such as 60s, 20m or 1.5h")
    return seconds


def max_epochs(config: DictConfig) -> Any:
    """Where a run ends by epochs; -1: nowhere.

    A number of steps is as many epochs as it takes, unless those are limited too. The number
    that suits the corpus, to which `trainer.max_epochs` refers, is no limit then.
    """
    ends_by_steps = config.budget is not None or config.trainer.max_steps != -1
    if ends_by_steps and OmegaConf.is_interpolation(config.trainer, "max_epochs"):
        return -1
    return config.trainer.max_epochs


class Stopwatch(Callback):
    """Ends a trial fit after some seconds of steps, and knows how fast they were.

    The first steps are not counted: memory is found and kernels are made ready in them.
    """

    def __init__(self, seconds: float = 2.0, skipped: int = 3) -> None:
        self.seconds = seconds
        self.skipped = skipped
        self._since = 0.0
        self._taken = 0.0
        self._batches = 0
        self._characters = 0

    def steps_within(self, seconds: float, trainer: pl.Trainer) -> int:
        """How many optimizer steps of average length fit; on every rank what the first found.

        By characters: the batches of the trial may have been shorter or longer than others, and
        all of the training part's, also where epochs are limited to some. Raises UserError where
        the trial ended before a step was measured.
        """
        if not self._taken:
            raise UserError(
                "budget: the trial ended before a step was measured; leave trainer.fast_dev_run "
                "and trainer.max_time away, or give trainer.max_steps instead of a budget"
            )
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        characters = seconds * self._characters / self._taken
        batches = characters * len(trainer.train_dataloader) / data.characters["train"]  # type: ignore[arg-type]
        steps = max(1, int(batches / trainer.accumulate_grad_batches))
        return int(trainer.strategy.broadcast(steps))

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        self._batches += 1
        if self._batches < self.skipped:
            return
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        if self._batches == self.skipped:
            self._since = time.perf_counter()
            return
        self._characters += batch.characters
        self._taken = time.perf_counter() - self._since
        if trainer.strategy.broadcast(self._taken >= self.seconds):
            trainer.should_stop = True
