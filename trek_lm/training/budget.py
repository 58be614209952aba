"""`budget=60s`: measures how many steps fit into that time before a run starts.

The number of steps is then fixed, and the learning-rate schedule is made for it. A run with
`trainer.max_steps=` set to that number is the same run, also on a slower machine.
"""

import logging
import math
import re
from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from trek_lm.errors import UserError
from trek_lm.terminal import count
from trek_lm.training.hardware import random_state, set_random_state
from trek_lm.training.lightning_internals import limit_steps
from trek_lm.training.recorder import Recorder
from trek_lm.training.trainer import chars_per_batch, data_of

log = logging.getLogger(__name__)

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
TRIAL: dict[str, Any] = {
    **{"max_time": {"seconds": 2}, "max_steps": 2**31, "max_epochs": -1, "limit_val_batches": 0},
    **{"logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
}


def seconds_of(budget: object) -> float:
    """Converts `60s`, `20m`, `1.5h` or a plain number to seconds.

    Raises UserError for anything else, and for zero.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([smh]?)", str(budget).strip())
    seconds = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not 0 < seconds < math.inf:
        raise UserError(f"budget={budget}: give a time such as 60s, 20m or 1.5h")
    return seconds


class Budget(Callback):
    """Measures before the first step how many steps fit into a time, and limits the run to them.

    It fits trial trainers and discards their weights: a step's time includes Lightning's overhead.
    A resumed run keeps its original limit.
    """

    def __init__(
        self, budget: object, make_trial: Callable[..., Trainer], *, resumes: bool
    ) -> None:
        """`make_trial` returns a trainer like the run's, with some arguments replaced."""
        self.budget = budget
        self.seconds = seconds_of(budget)
        self.make_trial = make_trial
        self.resumes = resumes
        self.steps = 0
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        if stage == "fit" and not self.resumes and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            before = random_state()
            # The first trial is a warm-up: oneDNN builds its kernels for each line length, and
            # memory is allocated.
            self.steps = [self._measured(trainer, module) for _ in range(2)][-1]
            set_random_state(before)
            limit_steps(trainer, self.steps)
            log.info("budget: %s of training is %s", self.budget, count(self.steps, "step"))

    def _measured(self, trainer: Trainer, module: LightningModule) -> int:
        """Runs a trial and returns how many steps fit; every rank gets the first rank's result.

        Counts characters, as the batches of a trial may be shorter or longer than others.
        """
        recorder = Recorder()
        trial = self.make_trial(callbacks=[recorder], **TRIAL)
        trial.fit(deepcopy(module), copy(data_of(trainer)))
        batches = self.seconds * recorder.chars_per_second / chars_per_batch(trial)
        steps = max(1, int(batches / trainer.accumulate_grad_batches))
        return int(trainer.strategy.broadcast(steps))

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert self._trainer is not None
        self.steps = state_dict["steps"]
        limit_steps(self._trainer, self.steps)
