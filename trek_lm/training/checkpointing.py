"""Checkpoints: when they are written, how, and what makes it exact to go on from one."""

import logging
import os
import shlex
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import (
    Checkpoint,
    GradientAccumulationScheduler,
    ModelCheckpoint,
)

from trek_lm.data.batching import Batch
from trek_lm.errors import DivergedError, UserError
from trek_lm.files import replacing
from trek_lm.signals import Stopped, stop_signals, uninterrupted
from trek_lm.training.hardware import random_state, set_random_state
from trek_lm.training.module import CharModule

log = logging.getLogger(__name__)


class DurableIO(TorchCheckpointIO):
    """Lightning's reading and writing of checkpoints; a file is there whole, or as it was before.

    Lightning's own makes its temporary file in another folder, perhaps on another disk, from
    where it can only be copied.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # A signal inside torch's writer would become an error that nobody expects.
        with uninterrupted(), replacing(Path(path)) as file:
            torch.save(checkpoint, file)


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: by validation loss, or the last epoch's where nothing is held out."""

    def __init__(self, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="val/loss",
            auto_insert_metric_name=False,
            enable_version_counter=False,  # one best.ckpt, also in a folder used again
        )

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not trainer.datamodule.has("val"):  # type: ignore[attr-defined]
            self.monitor = None
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A run's folder may have been moved: what was best in it still is.
        best = str(Path(str(self.dirpath)) / "best.ckpt")
        moved: dict[str, Any] = {"dirpath": self.dirpath}
        if state_dict["best_model_path"]:
            moved |= {"best_model_path": best, "kth_best_model_path": best}
            moved |= {"best_k_models": dict.fromkeys([best], state_dict["best_model_score"])}
        super().load_state_dict(state_dict | moved)


class LastCheckpoint(Checkpoint):
    """`last.ckpt`, from which a run goes on as if it had never stopped.

    Written before the first step, every few minutes, after each epoch, and before a signal or a
    divergence ends the run; never with weights that aren't finite. To what Lightning keeps, each
    checkpoint adds for every rank the random state and what `CharModule.in_flight` says of the
    epoch. (The place in the data is kept by the data module.)
    """

    def __init__(self, dirpath: str, every_minutes: float) -> None:
        super().__init__()
        if not isinstance(every_minutes, int | float) or not every_minutes >= 0:
            raise UserError(f"checkpoint.every_minutes={every_minutes}: must be 0 or more")
        self.path = Path(dirpath) / "last.ckpt"
        self.every_minutes = every_minutes
        self._saved_at = 0.0
        self._saved_step = -1
        self._loaded: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._loaded is None:
            self._save(trainer)
        else:
            # Only now: what comes before may draw random numbers of its own.
            assert isinstance(pl_module, CharModule)
            pl_module.restore_in_flight(self._loaded["in_flight"])
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, GradientAccumulationScheduler):  # else at an epoch's start
                    callback.on_train_epoch_start(trainer, pl_module)
            set_random_state(self._loaded["random"])
            self._saved_at = time.monotonic()
            self._loaded = None
        stop_signals.waiting = True
        stop_signals.install()  # Lightning has taken SIGTERM

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        due = time.monotonic() - self._saved_at >= 60 * self.every_minutes
        due, signal = trainer.strategy.broadcast((due, stop_signals.received))
        if (due or signal) and _is_between_steps(trainer, batch_idx + 1):
            self._save(trainer)
            _leave(signal)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        _leave(trainer.strategy.broadcast(stop_signals.received))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        stop_signals.waiting = False
        _leave(trainer.strategy.broadcast(stop_signals.received))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(pl_module, CharModule)
        own = {"random": random_state(), "in_flight": pl_module.in_flight()}
        ranks: list[Any] = [own] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(ranks, own)
        checkpoint["ranks"] = ranks
        _count_epoch(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not trainer.testing:
            self._loaded = checkpoint["ranks"][trainer.global_rank]

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        if (
            isinstance(exception, DivergedError)
            and self._saved_step < trainer.global_step
            and _is_between_steps(trainer, trainer.fit_loop.epoch_loop.batch_idx + 1)
        ):
            self._save(trainer)
        if not trainer.is_global_zero or not self.path.exists():
            return
        goes_on = shlex.quote(f"resume={os.path.relpath(self.path.parent.parent)}")
        if isinstance(exception, Stopped):
            log.info("stopped by %s; python train.py %s goes on", exception.signal.name, goes_on)
        elif isinstance(exception, OSError):
            log.info("what was saved last is whole; python train.py %s goes on", goes_on)

    def _save(self, trainer: pl.Trainer) -> None:
        if not all(bool(p.isfinite().all()) for p in trainer.lightning_module.parameters()):
            return
        for logger in trainer.loggers:
            logger.save()  # what goes on from here finds every point of the curves up to here
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()
        self._saved_step = trainer.global_step


def _leave(signal: int | None) -> None:
    if signal:
        raise Stopped(signal)


def _count_epoch(loop: dict[str, Any]) -> None:
    """Makes of an epoch that is being ended, in a loop's saved state, one that has ended.

    Lightning counts it after it is saved; with `max_steps` it would be ended twice.
    """
    for progress in loop["epoch_progress"].values():
        if progress["completed"] < progress["processed"]:
            progress["completed"] = progress["processed"]
            batches = loop["epoch_loop.batch_progress"]
            batches["current"] = dict.fromkeys(batches["current"], 0)
            batches["is_last_batch"] = False


def _is_between_steps(trainer: pl.Trainer, batches: int) -> bool:
    """Whether nothing is under way after so many batches of an epoch.

    Lightning takes up again neither a validation nor gradients that are still being summed, nor
    a run that has made all its steps; the end of an epoch has its own checkpoint.
    """
    out_of_time = trainer.should_stop and trainer.fit_loop._can_stop_early
    ends = trainer.is_last_batch or trainer.global_step == trainer.max_steps or out_of_time
    over_epochs = trainer.check_val_every_n_epoch is None
    counted = trainer.fit_loop.total_batch_idx + 1 if over_epochs else batches
    validates = isinstance(trainer.val_check_batch, int) and counted % trainer.val_check_batch == 0
    accumulates = batches % trainer.accumulate_grad_batches != 0
    return not (ends or validates or accumulates)
