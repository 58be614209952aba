"""`budget=60s`: how many steps a run can make in that time, measured before it begins.

The number is fixed then and the learning-rate schedule made for it, so that a run with
`trainer.max_steps=` the same is the same run, on a slower machine too.
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

    By trials of a trainer of their own, whose weights are thrown away: what Lightning does around
    a step is part of what a step takes. A resumed run keeps the limit that it began with.
    """

    def __init__(
        self, budget: object, make_trial: Callable[..., Trainer], *, resumes: bool
    ) -> None:
        """`make_trial` makes a trainer like the run's, with these arguments instead of its own."""
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
            # The first trial's answer is thrown away: in it oneDNN makes what it needs for each
            # length of lines, and memory is found.
            self.steps = [self._measured(trainer, module) for _ in range(2)][-1]
            set_random_state(before)
            limit_steps(trainer, self.steps)
            log.info("budget: %s of training is %s", self.budget, count(self.steps, "step"))

    def _measured(self, trainer: Trainer, module: LightningModule) -> int:
        """How many steps fit, by a trial; on every rank what the first one found.

        By characters: the batches of a trial may be shorter or longer than others.
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
