"""Training figures for `metrics.json`, kept across resumes."""

import math
import time
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from trek_lm.data.batching import Batch
from trek_lm.training.module import CharModule


class Recorder(Callback):
    """Records training time, characters, epochs and scores for `metrics.json`.

    `train_seconds` is the time from the first training step to the end of the last, without
    evaluation and what follows it (checkpoints, sample lines). A resumed run adds to the figures.
    """

    _KEPT = ("train_seconds", "epoch_seconds", "characters", "epochs", "train", "val")

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self.epoch_seconds = 0.0  # in the current epoch
        self.characters = 0  # predicted in training steps, on all ranks
        self.epochs = 0
        self.train: dict[str, float] = {}  # train/*, of the last epoch
        self.val: dict[str, float] = {}  # val/*, of the best epoch by loss
        self._since: float | None = None

    @property
    def chars_per_second(self) -> float:
        return self.characters / self.train_seconds if self.train_seconds else 0.0

    def on_train_batch_start(
        self, trainer: Trainer, module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.characters += batch.characters

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._stop()

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.sanity_checking:
            return
        scores = _scores(trainer, "val/")
        if not self.val or _sort_key(scores) < _sort_key(self.val):
            self.val = scores

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._stop()
        self.epochs += 1
        if isinstance(module, CharModule):
            speed = {"train/chars_per_second": self.chars_per_second}
            module.log_now(speed | {"train/seconds": self.epoch_seconds})
        self.epoch_seconds = 0.0

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.train = _scores(trainer, "train/")

    def on_save_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._since is not None:
            self._stop()
            self._since = time.perf_counter()
        self.train = _scores(trainer, "train/") or self.train
        checkpoint["recorder"] = {name: getattr(self, name) for name in self._KEPT}

    def on_load_checkpoint(
        self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if not trainer.testing:  # testing loads best.ckpt, perhaps of an earlier epoch
            vars(self).update(checkpoint["recorder"])

    def _stop(self) -> None:
        if self._since is not None:
            if torch.cuda.is_initialized():  # queued steps count as training
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self._since
            self.train_seconds += seconds
            self.epoch_seconds += seconds
            self._since = None


def _sort_key(scores: dict[str, float]) -> float:
    """The validation loss as ModelCheckpoint compares it: NaN is worse than any number."""
    loss = scores["val/loss"]
    return math.inf if math.isnan(loss) else loss


def _scores(trainer: Trainer, prefix: str) -> dict[str, float]:
    scores = trainer.callback_metrics.items()
    return {name: float(value) for name, value in scores if name.startswith(prefix)}
