"""What `metrics.json` says of the training itself, kept over resumes."""

import math
import time
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from trek_lm.data.batching import Batch
from trek_lm.training.module import CharModule


class Recorder(Callback):
    """Remembers what `metrics.json` says of the training itself.

    `train_seconds` runs from the first training step to the end of the last, evaluation and
    what it sets off (checkpoints, sample lines) left out. A resumed run keeps adding to it all.
    """

    _KEPT = ("train_seconds", "epoch_seconds", "characters", "epochs", "train", "val")

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self.epoch_seconds = 0.0  # of them in the present epoch
        self.characters = 0  # predicted in training steps, over all ranks
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
        if not self.val or _rank(scores) < _rank(self.val):
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
        if not trainer.testing:  # then it is the best epoch's, and the run is over
            vars(self).update(checkpoint["recorder"])

    def _stop(self) -> None:
        if self._since is not None:
            if torch.cuda.is_initialized():  # steps still queued are training too
                torch.cuda.synchronize()
            seconds = time.perf_counter() - self._since
            self.train_seconds += seconds
            self.epoch_seconds += seconds
            self._since = None


def _rank(scores: dict[str, float]) -> float:
    """The validation loss as ModelCheckpoint compares it: no number is worse than any."""
    loss = scores["val/loss"]
    return math.inf if math.isnan(loss) else loss


def _scores(trainer: Trainer, prefix: str) -> dict[str, float]:
    scores = trainer.callback_metrics.items()
    return {name: float(value) for name, value in scores if name.startswith(prefix)}
