"""Every use of Lightning's private attributes, checked against version `CHECKED`.

A newer Lightning may have changed them: tests/training/test_lightning_internals.py then fails and
names the function to fix.
"""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

CHECKED = "2.6.6"


def rank() -> int:
    """This process's rank, 0 in a run of one process; available before there is a Trainer."""
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def count_steps(trainer: pl.Trainer) -> tuple[int, int]:
    """The optimizer steps of a run, and of one epoch.

    An epoch's last step may accumulate fewer batches.
    """
    trainer.fit_loop.setup_data()  # estimated_stepping_batches skips it if only steps are limited
    batches, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
    return int(trainer.estimated_stepping_batches), math.ceil(batches / accumulated)


def limit_steps(trainer: pl.Trainer, steps: int) -> None:
    """Sets `trainer.max_steps`, which Lightning accepts only when a Trainer is made."""
    trainer.fit_loop.epoch_loop.max_steps = steps


def completed_epochs(trainer: pl.Trainer) -> int:
    """How many epochs are complete, including those before a resume."""
    return int(trainer.fit_loop.epoch_progress.current.completed)


def is_between_steps(trainer: pl.Trainer) -> bool:
    """Whether a checkpoint written after this batch can be resumed.

    Lightning can't resume within a validation or within gradient accumulation, nor a run that has
    made all its steps. The end of an epoch writes its own checkpoint.
    """
    batches = trainer.fit_loop.epoch_loop.batch_idx + 1  # done in this epoch
    out_of_time = trainer.should_stop and trainer.fit_loop._can_stop_early
    ends = trainer.is_last_batch or trainer.global_step == trainer.max_steps or out_of_time
    over_epochs = trainer.check_val_every_n_epoch is None
    counted = trainer.fit_loop.total_batch_idx + 1 if over_epochs else batches
    validates = isinstance(trainer.val_check_batch, int) and counted % trainer.val_check_batch == 0
    accumulates = batches % trainer.accumulate_grad_batches != 0
    return not (ends or validates or accumulates)


def end_epoch(checkpoint: dict[str, Any]) -> None:
    """Marks the ending epoch as complete in a checkpoint that is about to be written.

    Lightning does so only after the checkpoint: with `max_steps`, a resume would end it twice.
    """
    loop = checkpoint["loops"]["fit_loop"]
    for progress in loop["epoch_progress"].values():
        if progress["completed"] < progress["processed"]:
            progress["completed"] = progress["processed"]
            batches = loop["epoch_loop.batch_progress"]
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False


def progress_of(checkpoint: dict[str, Any]) -> tuple[int, bool]:
    """The optimizer steps of a checkpoint's run, and whether it was within an epoch.

    Raises KeyError or TypeError if it isn't a checkpoint of Lightning's.
    """
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    return int(checkpoint["global_step"]), batches["ready"] > 0


def move_best(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """ModelCheckpoint's state with `best.ckpt` in `folder`: the run may have been moved."""
    moved: dict[str, Any] = {"dirpath": str(folder)}
    if state["best_model_path"]:
        best = str(folder / "best.ckpt")
        moved |= {"best_model_path": best, "kth_best_model_path": best}
        moved |= {"best_k_models": {best: state["best_model_score"]}}
    return state | moved


def restart_events(logger: TensorBoardLogger, step: int) -> None:
    """Makes TensorBoard ignore what was logged for later steps; call it before logging.

    Changes `purge_step`, which the logger passes to its writer when it makes it.
    """
    logger._kwargs["purge_step"] = step + 1
