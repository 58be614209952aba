"""Small models in training, and runs that are interrupted and resumed."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, ProgressBar
from pytorch_lightning.loggers.logger import Logger

from tests.support.corpora import data_from
from trek_lm.data.charset import Charset
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.training.checkpointing import BestCheckpoint, DurableIO, LastCheckpoint
from trek_lm.training.hardware import quiet
from trek_lm.training.module import CharModule
from trek_lm.training.recorder import Recorder
from trek_lm.training.schedules import cosine, exponential

LINES = {"batch_size": 24}  # 4 batches per epoch
STREAM = {"batch_size": 8, "batching": "stream", "sequence_length": 120, "split": "position"}

# Values that depend on the machine's load.
TIMED = {
    *("train/chars_per_second", "train/seconds", "final/chars_per_second", "final/train_seconds"),
}


def module_for(charset: Charset, lr: float = 0.1, **options: Any) -> CharModule:
    """A small model for training with plain SGD."""
    torch.manual_seed(0)
    return CharModule(
        RecurrentLM(len(charset), **{"hidden": 8, **options}),
        partial(torch.optim.SGD, lr=lr),
        partial(exponential, gamma=1.0),
        charset=charset,
        speakers={"ADA": 1},
    )


def trainer_for(folder: Path, **options: Any) -> pl.Trainer:
    """A Trainer without anything that a test did not ask for."""
    quiet()
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_progress_bar": any(
            isinstance(c, ProgressBar) for c in options.get("callbacks", ())
        ),
        "enable_model_summary": False,
        "enable_checkpointing": any(
            isinstance(c, Checkpoint) for c in options.get("callbacks", ())
        ),
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "default_root_dir": folder,
    }
    return pl.Trainer(**given | options)


class KilledError(Exception):
    pass


class KillAt(Callback):
    """Kills a run at the n-th call of a hook, counted from 0; by default before the n-th batch."""

    def __init__(self, calls: int, hook: str = "on_train_batch_start") -> None:
        self.left = calls
        setattr(self, hook, self._called)

    def _called(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


class Points(Logger):
    """A logger that keeps the curves' points in a list."""

    name = "points"
    version = 0

    def __init__(self, points: list[tuple[str, int, float]]) -> None:
        super().__init__()
        self.points = points

    def log_hyperparams(self, *_: Any) -> None:
        pass

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.points += [(name, step, value) for name, value in metrics.items()]


def module_with_dropout(data: TranscriptDataModule) -> CharModule:
    return CharModule(
        RecurrentLM(len(data.charset), hidden=8, layers=2, dropout=0.3),
        partial(torch.optim.AdamW, lr=0.02),
        partial(cosine, warmup=0.2, final=0.1),
        charset=data.charset,
        speakers=data.speakers,
    )


class Run:
    """A run's folder and curves; each `fit` stands for a new process."""

    def __init__(self, folder: Path, corpus: Path, data: dict[str, Any], **trainer: Any) -> None:
        self.folder = folder
        self.corpus = corpus
        self.data = data
        self.trainer = trainer
        self.points: list[tuple[str, int, float]] = []
        self.recorder = Recorder()

    def fit(
        self,
        *,
        resume: bool = False,
        kill_at: int | None = None,
        minutes: float = 0,
        more: Sequence[Callback] = (),
        **options: Any,
    ) -> None:
        torch.manual_seed(0 if not resume else 99)
        data = data_from(self.corpus, **self.data)
        self.recorder = Recorder()
        callbacks: list[Any] = [
            self.recorder,
            BestCheckpoint(str(self.folder)),
            LastCheckpoint(str(self.folder), every_minutes=minutes),
            *more,
        ]
        if kill_at is not None:
            callbacks.append(KillAt(kill_at))
        last = self.folder / "last.ckpt" if resume else None
        if resume:
            step = self.checkpoint()["global_step"]
            self.points = [point for point in self.points if point[1] <= step]
        trainer = trainer_for(
            self.folder,
            callbacks=callbacks,
            logger=Points(self.points),
            log_every_n_steps=1,
            **{"max_epochs": 3, "plugins": [DurableIO()]} | self.trainer | options,
        )
        trainer.fit(module_with_dropout(data), data, ckpt_path=last, weights_only=True)

    def checkpoint(self, name: str = "last") -> dict[str, Any]:
        content: dict[str, Any] = torch.load(self.folder / f"{name}.ckpt", weights_only=True)
        return content

    def result(self) -> dict[str, Any]:
        """Everything that must not depend on where the run was interrupted."""
        last, best = self.checkpoint(), self.checkpoint("best")
        kept = ("epoch", "global_step", "optimizer_states", "lr_schedulers", "ranks")
        return {
            "weights": last["state_dict"],
            "best": (best["state_dict"], best["epoch"]),
            **{key: last[key] for key in kept},
            "batches": last["TranscriptDataModule"],
            "curves": sorted(point for point in self.points if point[0] not in TIMED),
            "counted": (self.recorder.characters, self.recorder.epochs),
            "train": {k: v for k, v in self.recorder.train.items() if k not in TIMED},
            "val": self.recorder.val,
        }


def assert_same(first: Any, second: Any, where: str = "") -> None:
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for number, pair in enumerate(zip(first, second, strict=True)):
            assert_same(*pair, f"{where}/{number}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where
