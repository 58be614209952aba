import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, GradientAccumulationScheduler
from pytorch_lightning.loggers.logger import Logger

from tests.conftest import trainer_for
from tests.data.test_datamodule import make
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.errors import UserError
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.training.checkpointing import BestCheckpoint, DurableIO, LastCheckpoint
from trek_lm.training.module import CharModule
from trek_lm.training.recorder import Recorder
from trek_lm.training.schedules import cosine

# What depends on what else the machine does.
TIMED = {
    *("train/chars_per_second", "train/seconds", "final/chars_per_second", "final/train_seconds"),
}


class KilledError(Exception):
    pass


class KillAt(Callback):
    """Ends a run at a hook's n-th call from 0 on; unless it is named, before the n-th batch."""

    def __init__(self, calls: int, hook: str = "on_train_batch_start") -> None:
        self.left = calls
        setattr(self, hook, self._called)

    def _called(self, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


class Points(Logger):
    """A logger that keeps the points of the curves."""

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


def module_for(data: TranscriptDataModule) -> CharModule:
    return CharModule(
        RecurrentLM(len(data.charset), hidden=8, layers=2, dropout=0.3),
        partial(torch.optim.AdamW, lr=0.02),
        partial(cosine, warmup=0.2, final=0.1),
        charset=data.charset,
        speakers=data.speakers,
    )


class Run:
    """A run's folder and curves; each `fit` is a process of its own."""

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
        data = make(self.corpus, **self.data)
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
        trainer.fit(module_for(data), data, ckpt_path=last, weights_only=True)

    def checkpoint(self, name: str = "last") -> dict[str, Any]:
        content: dict[str, Any] = torch.load(self.folder / f"{name}.ckpt", weights_only=True)
        return content

    def result(self) -> dict[str, Any]:
        """All that must be the same, wherever the run was interrupted."""
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


LINES = {"batch_size": 24}  # 4 batches an epoch
STREAM = {"batch_size": 8, "batching": "stream", "sequence_length": 120, "split": "position"}


@pytest.mark.parametrize(
    ("data", "trainer"),
    [
        (LINES, {}),
        (STREAM, {}),
        (LINES | {"val_fraction": 0.0}, {}),
        (LINES, {"accumulate_grad_batches": 3}),
        (LINES, {"val_check_interval": 0.5}),
        (LINES, {"check_val_every_n_epoch": 2}),
        (LINES, {"max_steps": 10}),
        (LINES, {"limit_train_batches": 3}),
    ],
    ids=lambda options: ",".join(f"{k}={v}" for k, v in options.items()) or "plain",
)
def test_a_run_goes_on_as_if_it_had_never_stopped(
    data: dict[str, Any], trainer: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    """Stopped before every single batch; weights, optimizer, random state, curves, counts."""
    whole = Run(tmp_path / "whole", corpus, data, **trainer)
    whole.fit()
    expected = whole.result()
    batches = sum(name == "train/loss_step" for name, *_ in whole.points)
    batches *= trainer.get("accumulate_grad_batches", 1)
    assert batches > 8
    for kill_at in range(batches):
        run = Run(tmp_path / f"{kill_at}", corpus, data, **trainer)
        with pytest.raises(KilledError):
            run.fit(kill_at=kill_at)
        run.fit(resume=True)
        assert_same(run.result(), expected, f"killed at {kill_at}")


@pytest.mark.parametrize(
    ("trainer", "call", "hook"),
    [
        ({"max_steps": 10}, 2, "on_validation_start"),  # all steps are made, within an epoch
        ({}, 0, "on_train_end"),
    ],
)
def test_a_run_stopped_after_its_last_step_is_ended(
    trainer: dict[str, Any], call: int, hook: str, corpus: Path, tmp_path: Path
) -> None:
    whole, run = (Run(tmp_path / name, corpus, LINES, **trainer) for name in ("whole", "run"))
    whole.fit()
    with pytest.raises(KilledError):
        run.fit(more=[KillAt(call, hook)])
    run.fit(resume=True)
    assert_same(run.result(), whole.result())


def test_batches_that_grow_go_on_growing(corpus: Path, tmp_path: Path) -> None:
    """Lightning sets their number at an epoch's start alone."""

    def growing() -> list[Callback]:
        return [GradientAccumulationScheduler({0: 1, 1: 2})]

    whole, run = (Run(tmp_path / name, corpus, LINES) for name in ("whole", "run"))
    whole.fit(more=growing())
    with pytest.raises(KilledError):
        run.fit(kill_at=6, more=growing())
    run.fit(resume=True, more=growing())
    assert run.checkpoint()["global_step"] == 4 + 2 + 2
    assert_same(run.result(), whole.result())


def test_a_run_may_be_stopped_again_and_again(corpus: Path, tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", corpus, STREAM)
    whole.fit()
    run = Run(tmp_path / "run", corpus, STREAM)
    with pytest.raises(KilledError):
        run.fit(kill_at=2)
    for kill_at in (0, 1, 3, 2):
        with pytest.raises(KilledError):
            run.fit(resume=True, kill_at=kill_at)
    run.fit(resume=True)
    assert_same(run.result(), whole.result())


def test_a_run_that_had_ended_ends_again(corpus: Path, tmp_path: Path) -> None:
    """Killed while it was tested, say."""
    run = Run(tmp_path, corpus, LINES)
    run.fit()
    expected = run.result()
    run.fit(resume=True)
    assert_same(run.result(), expected)


def test_a_run_can_be_trained_longer(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, corpus, LINES)
    run.fit()
    run.fit(resume=True, max_epochs=5)
    assert run.checkpoint()["epoch"] == 4
    steps = [step for name, step, _ in run.points if name == "train/loss_step"]
    assert steps == list(range(1, 21))
    assert [step for name, step, _ in run.points if name == "val/loss"] == [4, 8, 12, 16, 20]


def test_what_was_best_stays_best_in_a_moved_folder(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "here", corpus, LINES)
    run.fit()
    score = run.checkpoint()["callbacks"]
    run.folder = run.folder.rename(tmp_path / "there")
    callback = BestCheckpoint(str(run.folder))
    (state,) = (state for key, state in score.items() if "BestCheckpoint" in key)
    callback.load_state_dict(state)
    assert callback.best_model_path == str(run.folder / "best.ckpt")
    assert callback.best_model_score == state["best_model_score"]
    assert callback.kth_value == state["kth_value"]


def test_time_counts_on(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, corpus, LINES)
    run.fit()
    before = run.recorder.train_seconds
    run.fit(resume=True, max_epochs=4)
    assert run.recorder.train_seconds > before > 0


def test_seconds_of_the_epochs_are_those_of_the_training(corpus: Path, tmp_path: Path) -> None:
    """Killed within the second epoch: what it took before counts too."""
    run = Run(tmp_path, corpus, LINES)
    with pytest.raises(KilledError):
        run.fit(kill_at=6)
    assert run.checkpoint()["recorder"]["epoch_seconds"] > 0
    run.fit(resume=True)
    seconds = [value for name, _, value in run.points if name == "train/seconds"]
    assert len(seconds) == 3
    assert sum(seconds) == pytest.approx(run.recorder.train_seconds)


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_checkpoints_come_every_few_minutes_and_after_epochs(
    every: float, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    save = pl.Trainer.save_checkpoint

    def record(self: pl.Trainer, path: Any, *args: Any, **kwargs: Any) -> None:
        if Path(path).name == "last.ckpt":
            steps.append(self.global_step)
        save(self, path, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", record)
    data = make(corpus, **LINES)
    last = LastCheckpoint(str(tmp_path), every_minutes=every)
    trainer_for(tmp_path, max_epochs=2, callbacks=[last]).fit(module_for(data), data)
    assert steps == (list(range(9)) if every == 0 else [0, 4, 8])


@pytest.mark.parametrize("value", [-1, "often", None])
def test_minutes_out_of_range(value: Any) -> None:
    with pytest.raises(UserError, match=r"checkpoint\.every_minutes="):
        LastCheckpoint("x", every_minutes=value)


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    DurableIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(AttributeError, match="local object"):
        DurableIO().save_checkpoint({"step": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_ctrl_c_waits_until_a_checkpoint_is_written(tmp_path: Path) -> None:
    """In the midst of it torch's writer would end with an error that nobody expects."""

    class Interrupting:
        def __reduce__(self) -> tuple[type, tuple[()]]:
            signal.raise_signal(signal.SIGINT)
            return (int, ())

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        DurableIO().save_checkpoint({"zero": Interrupting()}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=False) == {"zero": 0}
    assert signal.getsignal(signal.SIGINT) is before
