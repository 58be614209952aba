"""Checkpoints: when and how they are written, and what makes resuming exact."""

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
from trek_lm.files import atomic_write
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
    """Lightning's checkpoint I/O, with atomic writes: a file is complete or unchanged.

    Lightning writes its temporary file to another folder, perhaps on another disk, and then has
    to copy it.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        # A signal inside torch's writer would surface as an unrelated error.
        with uninterrupted(), atomic_write(Path(path)) as file:
            torch.save(checkpoint, file)


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`: of the lowest validation loss, or of the last epoch if nothing is held out."""

    def __init__(self, dirpath: str) -> None:
        super().__init__(
            dirpath=dirpath,
            filename="best",
            monitor="val/loss",
            auto_insert_metric_name=False,
            enable_version_counter=False,  # replace best.ckpt instead of writing best-v1.ckpt
        )

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if not data_of(trainer).has("val"):
            self.monitor = None
        super().setup(trainer, module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # The run's folder may have been moved since.
        super().load_state_dict(move_best(state_dict, Path(str(self.dirpath))))


class LastCheckpoint(Checkpoint):
    """`last.ckpt`: a run resumed from it continues as if it had never stopped.

    Written before the first step, every few minutes, after each epoch, and before a signal or a
    divergence ends the run; never with non-finite weights. Adds to Lightning's checkpoint, for
    every rank, the random state and `CharModule.in_flight`: the epoch's metrics and the carried
    state. (The data module saves the position in the data.)
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
            # Restored this late because earlier hooks may draw random numbers.
            assert isinstance(module, CharModule)
            module.restore_in_flight(self._loaded["in_flight"])
            for scheduler in callbacks_of(trainer, GradientAccumulationScheduler):
                scheduler.on_train_epoch_start(trainer, module)  # else at epoch starts only
            set_random_state(self._loaded["random"])
            self._saved_at = time.monotonic()
            self._loaded = None
        stop_signals.waiting = True
        stop_signals.install()  # Lightning replaced the SIGTERM handler

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        due = time.monotonic() - self._saved_at >= 60 * self.every_minutes
        due, signal = trainer.strategy.broadcast((due, stop_signals.received))
        if (due or signal) and is_between_steps(trainer):
            self._save(trainer)
            _raise_if_stopped(signal)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._save(trainer)
        _raise_if_stopped(trainer.strategy.broadcast(stop_signals.received))

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        stop_signals.waiting = False
        _raise_if_stopped(trainer.strategy.broadcast(stop_signals.received))

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
            logger.save()  # the curves on disk are complete up to the checkpoint
        trainer.save_checkpoint(self.path)
        self._saved_at = time.monotonic()
        self._saved_step = trainer.global_step


def _raise_if_stopped(signal: int | None) -> None:
    if signal:
        raise Stopped(signal)
