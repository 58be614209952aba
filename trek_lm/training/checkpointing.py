"""Checkpoints: when they are written, how, and what makes it exact to resume from one."""

import time
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
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
from trek_lm.training.lightning_internals import (
    end_epoch,
    is_between_steps,
    move_best,
)
from trek_lm.training.module import CharModule
from trek_lm.training.trainer import callbacks_of, data_of


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

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if not data_of(trainer).has("val"):
            self.monitor = None
        super().setup(trainer, module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A run's folder may have been moved: what was best in it still is.
        super().load_state_dict(move_best(state_dict, Path(str(self.dirpath))))


class LastCheckpoint(Checkpoint):
    """`last.ckpt`, from which a run is resumed as if it had never stopped.

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

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if self._loaded is None:
            self._save(trainer)
        else:
            # Only now: what comes before may draw random numbers of its own.
            assert isinstance(module, CharModule)
            module.restore_in_flight(self._loaded["in_flight"])
            for scheduler in callbacks_of(trainer, GradientAccumulationScheduler):
                scheduler.on_train_epoch_start(trainer, module)  # else at an epoch's start
            set_random_state(self._loaded["random"])
            self._saved_at = time.monotonic()
            self._loaded = None
        stop_signals.waiting = True
        stop_signals.install()  # Lightning has taken SIGTERM

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        due = time.monotonic() - self._saved_at >= 60 * self.every_minutes
        due, signal = trainer.strategy.broadcast((due, stop_signals.received))
        if (due or signal) and is_between_steps(trainer):
            self._save(trainer)
            _leave(signal)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._save(trainer)
        _leave(trainer.strategy.broadcast(stop_signals.received))

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        stop_signals.waiting = False
        _leave(trainer.strategy.broadcast(stop_signals.received))

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        assert isinstance(module, CharModule)
        own = {"random": random_state(), "in_flight": module.in_flight()}
        ranks: list[Any] = [own] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(ranks, own)
        checkpoint["ranks"] = ranks
        end_epoch(checkpoint)

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not trainer.testing:
            self._loaded = checkpoint["ranks"][trainer.global_rank]

    def on_exception(
        self, trainer: Trainer, module: LightningModule, exception: BaseException
    ) -> None:
        if (
            isinstance(exception, DivergedError)
            and self._saved_step < trainer.global_step
            and is_between_steps(trainer)
        ):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not all(bool(p.isfinite().all()) for p in trainer.lightning_module.parameters()):
            return
        for logger in trainer.loggers:
            logger.save()  # a run resumed from here finds every point of the curves up to here
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()
        self._saved_step = trainer.global_step


def _leave(signal: int | None) -> None:
    if signal:
        raise Stopped(signal)
