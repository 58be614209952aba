import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, GradientAccumulationScheduler

from tests.support.corpora import data_from
from tests.support.training import (
    LINES,
    STREAM,
    KillAt,
    KilledError,
    Run,
    assert_same,
    module_with_dropout,
    trainer_for,
)
from trek_lm.errors import UserError
from trek_lm.training.checkpointing import BestCheckpoint, DurableIO, LastCheckpoint

SCHEDULES = pytest.mark.parametrize(
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


def check_killed_runs(
    data: dict[str, Any], trainer: dict[str, Any], corpus: Path, folder: Path, every: bool
) -> None:
    """Compares weights, optimizer, random state, curves and counts with those of a whole run.

    Kills a run before every batch, or before four: the first, two within epochs, the last.
    """
    whole = Run(folder / "whole", corpus, data, **trainer)
    whole.fit()
    expected = whole.result()
    batches = sum(name == "train/loss_step" for name, *_ in whole.points)
    batches *= trainer.get("accumulate_grad_batches", 1)
    assert batches > 8
    for kill_at in range(batches) if every else (0, 2, batches // 2 + 1, batches - 1):
        run = Run(folder / f"{kill_at}", corpus, data, **trainer)
        with pytest.raises(KilledError):
            run.fit(kill_at=kill_at)
        run.fit(resume=True)
        assert_same(run.result(), expected, f"killed at {kill_at}")


@SCHEDULES
def test_resumed_run_equals_uninterrupted_run(
    data: dict[str, Any], trainer: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    check_killed_runs(data, trainer, corpus, tmp_path, every=False)


@pytest.mark.slow
@SCHEDULES
def test_resumed_at_every_batch_equals_uninterrupted_run(
    data: dict[str, Any], trainer: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    check_killed_runs(data, trainer, corpus, tmp_path, every=True)


@pytest.mark.parametrize(
    ("trainer", "call", "hook"),
    [
        ({"max_steps": 10}, 2, "on_validation_start"),  # all steps are done, inside an epoch
        ({}, 0, "on_train_end"),
    ],
)
def test_run_killed_after_its_last_step_is_completed(
    trainer: dict[str, Any], call: int, hook: str, corpus: Path, tmp_path: Path
) -> None:
    whole, run = (Run(tmp_path / name, corpus, LINES, **trainer) for name in ("whole", "run"))
    whole.fit()
    with pytest.raises(KilledError):
        run.fit(more=[KillAt(call, hook)])
    run.fit(resume=True)
    assert_same(run.result(), whole.result())


def test_resume_keeps_the_accumulation_schedule(corpus: Path, tmp_path: Path) -> None:
    """Lightning sets the number of accumulated batches only at the start of an epoch."""

    def growing() -> list[Callback]:
        return [GradientAccumulationScheduler({0: 1, 1: 2})]

    whole, run = (Run(tmp_path / name, corpus, LINES) for name in ("whole", "run"))
    whole.fit(more=growing())
    with pytest.raises(KilledError):
        run.fit(kill_at=6, more=growing())
    run.fit(resume=True, more=growing())
    assert run.checkpoint()["global_step"] == 4 + 2 + 2
    assert_same(run.result(), whole.result())


def test_run_resumes_several_times(corpus: Path, tmp_path: Path) -> None:
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


def test_resuming_a_finished_fit_changes_nothing(corpus: Path, tmp_path: Path) -> None:
    """As after a kill during the test."""
    run = Run(tmp_path, corpus, LINES)
    run.fit()
    expected = run.result()
    run.fit(resume=True)
    assert_same(run.result(), expected)


def test_finished_run_can_be_trained_longer(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, corpus, LINES)
    run.fit()
    run.fit(resume=True, max_epochs=5)
    assert run.checkpoint()["epoch"] == 4
    steps = [step for name, step, _ in run.points if name == "train/loss_step"]
    assert steps == list(range(1, 21))
    assert [step for name, step, _ in run.points if name == "val/loss"] == [4, 8, 12, 16, 20]


def test_best_checkpoint_survives_a_moved_folder(corpus: Path, tmp_path: Path) -> None:
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


def test_training_time_accumulates_over_resumes(corpus: Path, tmp_path: Path) -> None:
    run = Run(tmp_path, corpus, LINES)
    run.fit()
    before = run.recorder.train_seconds
    run.fit(resume=True, max_epochs=4)
    assert run.recorder.train_seconds > before > 0


def test_epoch_seconds_sum_to_training_seconds(corpus: Path, tmp_path: Path) -> None:
    """Killed inside the second epoch; the time before the kill counts too."""
    run = Run(tmp_path, corpus, LINES)
    with pytest.raises(KilledError):
        run.fit(kill_at=6)
    assert run.checkpoint()["recorder"]["epoch_seconds"] > 0
    run.fit(resume=True)
    seconds = [value for name, _, value in run.points if name == "train/seconds"]
    assert len(seconds) == 3
    assert sum(seconds) == pytest.approx(run.recorder.train_seconds)


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_last_checkpoint_is_saved_every_minutes_and_epoch(
    every: float, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    save = pl.Trainer.save_checkpoint

    def record(self: pl.Trainer, path: Any, *args: Any, **kwargs: Any) -> None:
        if Path(path).name == "last.ckpt":
            steps.append(self.global_step)
        save(self, path, *args, **kwargs)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", record)
    data = data_from(corpus, **LINES)
    last = LastCheckpoint(str(tmp_path), every_minutes=every)
    trainer_for(tmp_path, max_epochs=2, callbacks=[last]).fit(module_with_dropout(data), data)
    assert steps == (list(range(9)) if every == 0 else [0, 4, 8])


@pytest.mark.parametrize("value", [-1, "often", None])
def test_invalid_minutes(value: Any) -> None:
    with pytest.raises(UserError, match=r"checkpoint\.every_minutes="):
        LastCheckpoint("x", every_minutes=value)


def test_checkpoint_is_written_atomically(tmp_path: Path) -> None:
    path = tmp_path / "new" / "last.ckpt"
    DurableIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(AttributeError, match="local object"):
        DurableIO().save_checkpoint({"step": lambda: 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_ctrl_c_waits_for_the_checkpoint(tmp_path: Path) -> None:
    """Interrupted in between, torch's writer would raise an unrelated error."""

    class Interrupting:
        def __reduce__(self) -> tuple[type, tuple[()]]:
            signal.raise_signal(signal.SIGINT)
            return (int, ())

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        DurableIO().save_checkpoint({"zero": Interrupting()}, tmp_path / "a.ckpt")
    assert torch.load(tmp_path / "a.ckpt", weights_only=False) == {"zero": 0}
    assert signal.getsignal(signal.SIGINT) is before
