"""`budget=60s`: how many steps a run can make in that time, measured before it begins.

The number is fixed then and the learning-rate schedule made for it, so that a run with
`trainer.max_steps=` the same is the same run, on a slower machine too.
"""

import logging
import math
import re
import time
from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from trek_lm.data.batching import Batch
from trek_lm.errors import UserError
from trek_lm.terminal import count
from trek_lm.training.hardware import random_state, set_random_state
from trek_lm.training.lightning_internals import limit_steps
from trek_lm.training.trainer import chars_per_batch, data_of

log = logging.getLogger(__name__)

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


class Budget(Callback):
    """Measures how many steps fit into a time before the first one, and makes that the limit.

    By a second trainer, in trials whose weights are thrown away: what Lightning does around a
    step is part of what a step takes. A resumed run keeps the limit that it began with.
    """

    def __init__(
        self, budget: object, make_trial: Callable[..., pl.Trainer], *, resumes: bool
    ) -> None:
        """`make_trial` makes a trainer with no output of its own, with these arguments besides."""
        self.budget = budget
        self.seconds = seconds_of(budget)
        self.make_trial = make_trial
        self.resumes = resumes
        self.steps = 0
        self._trainer: pl.Trainer | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._trainer = trainer
        if stage == "fit" and not self.resumes:
            before = random_state()
            self.steps = self._measure(trainer, pl_module)
            set_random_state(before)
            limit_steps(trainer, self.steps)
            log.info("budget: %s of training is %s", self.budget, count(self.steps, "step"))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self._trainer is not None
        self.steps = state_dict["steps"]
        limit_steps(self._trainer, self.steps)

    def _measure(self, trainer: pl.Trainer, module: pl.LightningModule) -> int:
        # Of two trials the second counts: in the first, oneDNN makes what it needs for each length
        # of lines.
        for _ in range(2):
            watch = Stopwatch()
            trial = self.make_trial(
                callbacks=[watch], max_steps=2**31, max_epochs=-1, limit_val_batches=0
            )
            trial.fit(deepcopy(module), copy(data_of(trainer)))
        return watch.steps_within(self.seconds, trial)


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
        characters = seconds * self._characters / self._taken
        batches = characters / chars_per_batch(trainer)
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
