"""Every touch of Lightning's private parts; each was checked against the version in `CHECKED`.

A newer Lightning may have moved them: tests/training/test_lightning_internals.py fails then, and
says which function to look at.
"""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

CHECKED = "2.6.6"


def rank() -> int:
    """This process's rank, 0 where there is one process; known before there is a Trainer."""
    return int(getattr(rank_zero_only, "rank", 0) or 0)


def count_steps(trainer: pl.Trainer) -> tuple[int, int]:
    """The optimizer steps of a run and of one of its epochs; the epoch's last may sum fewer
    batches.
    """
    trainer.fit_loop.setup_data()  # estimating does so unless only steps limit the run
    batches, summed = trainer.num_training_batches, trainer.accumulate_grad_batches
    return int(trainer.estimated_stepping_batches), math.ceil(batches / summed)


def limit_steps(trainer: pl.Trainer, steps: int) -> None:
    """Sets `trainer.max_steps`, which Lightning takes when a Trainer is made."""
    trainer.fit_loop.epoch_loop.max_steps = steps


def completed_epochs(trainer: pl.Trainer) -> int:
    """How many epochs have ended, the resumed ones included."""
    return int(trainer.fit_loop.epoch_progress.current.completed)


def is_between_steps(trainer: pl.Trainer) -> bool:
    """Whether nothing is under way after a batch.

    Lightning resumes neither a validation nor gradients that are still being summed, nor a run
    that has made all its steps; the end of an epoch has its own checkpoint.
    """
    batches = trainer.fit_loop.epoch_loop.batch_idx + 1  # of this epoch, which are done
    out_of_time = trainer.should_stop and trainer.fit_loop._can_stop_early
    ends = trainer.is_last_batch or trainer.global_step == trainer.max_steps or out_of_time
    over_epochs = trainer.check_val_every_n_epoch is None
    counted = trainer.fit_loop.total_batch_idx + 1 if over_epochs else batches
    validates = isinstance(trainer.val_check_batch, int) and counted % trainer.val_check_batch == 0
    accumulates = batches % trainer.accumulate_grad_batches != 0
    return not (ends or validates or accumulates)


def end_epoch(checkpoint: dict[str, Any]) -> None:
    """Counts an epoch that is just ending as ended, in a checkpoint that is about to be written.

    Lightning counts it after the checkpoint; with `max_steps` it would be ended twice.
    """
    loop = checkpoint["loops"]["fit_loop"]
    for progress in loop["epoch_progress"].values():
        if progress["completed"] < progress["processed"]:
            progress["completed"] = progress["processed"]
            batches = loop["epoch_loop.batch_progress"]
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False


def progress_of(checkpoint: dict[str, Any]) -> tuple[int, bool]:
    """The optimizer steps of a checkpoint's run, and whether it is within an epoch.

    Raises KeyError or TypeError for no checkpoint.
    """
    batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    return int(checkpoint["global_step"]), batches["ready"] > 0


def move_best(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """ModelCheckpoint's saved state for `best.ckpt` in that folder: a run's may have been moved."""
    moved: dict[str, Any] = {"dirpath": str(folder)}
    if state["best_model_path"]:
        best = str(folder / "best.ckpt")
        moved |= {"best_model_path": best, "kth_best_model_path": best}
        moved |= {"best_k_models": {best: state["best_model_score"]}}
    return state | moved


def restart_events(logger: TensorBoardLogger, step: int) -> None:
    """Lets TensorBoard ignore what was logged of steps after this one; before the writer is made.

    `purge_step` is an argument of the writer that the logger was given when it was made.
    """
    logger._kwargs["purge_step"] = step + 1
