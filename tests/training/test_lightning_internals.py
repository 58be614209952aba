"""Lightning's private parts: whether they still work as our functions expect."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only

from tests.support.corpora import data_from
from tests.support.training import module_for, trainer_for
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.runs.dashboard import TensorBoard
from trek_lm.runs.folder import read_curves
from trek_lm.training import lightning_internals as internals
from trek_lm.training.checkpointing import BestCheckpoint, LastCheckpoint
from trek_lm.training.module import CharModule


def test_lightning_version_was_checked() -> None:
    """With a new version, check each function of the module, then update `CHECKED`."""
    assert version("pytorch-lightning") == internals.CHECKED


def test_rank_matches_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert internals.rank() == 0
    monkeypatch.setattr(rank_zero_only, "rank", 3, raising=False)
    assert internals.rank() == 3


class Watch(Callback):
    """Calls a function before and after every batch."""

    def __init__(self, before: Any = None, after: Any = None) -> None:
        self.before, self.after = before, after

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if self.before:
            self.before(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *given: Any) -> None:
        if self.after:
            self.after(trainer, given[-1])


@pytest.fixture
def data(corpus: Path) -> TranscriptDataModule:
    """Five batches of training lines."""
    made = data_from(corpus, batch_size=20)
    made.setup()
    return made


def fit(folder: Path, data: TranscriptDataModule, *callbacks: Callback, **options: Any) -> Any:
    trainer = trainer_for(folder, callbacks=list(callbacks), **{"max_epochs": 2} | options)
    trainer.fit(module_for(data.charset), data)
    return trainer


def test_steps_are_known_before_training(
    data: TranscriptDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the schedule is built; with three batches per step, an epoch's last step has two."""
    counted: list[tuple[int, int]] = []
    original = CharModule.configure_optimizers

    def counting(module: CharModule) -> Any:
        counted.append(internals.count_steps(module.trainer))
        return original(module)

    monkeypatch.setattr(CharModule, "configure_optimizers", counting)
    fit(tmp_path, data, accumulate_grad_batches=3)
    fit(tmp_path, data, max_steps=3)
    fit(tmp_path, data, limit_train_batches=2)
    assert counted == [(4, 2), (3, 5), (4, 2)]


def test_max_steps_can_be_set_in_setup(data: TranscriptDataModule, tmp_path: Path) -> None:
    def limit(trainer: pl.Trainer) -> None:
        internals.limit_steps(trainer, 7)

    trainer = fit(tmp_path, data, Watch(before=limit), max_epochs=9)
    assert (trainer.global_step, trainer.max_steps) == (7, 7)


def test_completed_epochs(data: TranscriptDataModule, tmp_path: Path) -> None:
    done: list[int] = []

    def note(trainer: pl.Trainer, _: int) -> None:
        done.append(internals.completed_epochs(trainer))

    trainer = fit(tmp_path, data, Watch(after=note))
    assert done == [0] * 5 + [1] * 5
    assert internals.completed_epochs(trainer) == 2


@pytest.mark.parametrize(
    ("options", "between"),
    [
        ({}, [1, 2, 3, 4]),
        ({"accumulate_grad_batches": 2}, [2, 4]),
        ({"val_check_interval": 2}, [1, 3]),
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, [1, 2, 4]),
        ({"max_steps": 3}, [1, 2]),
    ],
    ids=str,
)
def test_no_progress_outside_an_epoch(
    options: dict[str, Any], between: list[int], data: TranscriptDataModule, tmp_path: Path
) -> None:
    found: list[int] = []

    def note(trainer: pl.Trainer, batch: int) -> None:
        if internals.is_between_steps(trainer):
            found.append(batch + 1)

    fit(tmp_path, data, Watch(after=note), **{"max_epochs": 1} | options)
    assert found == between


def test_progress_stored_in_checkpoints(data: TranscriptDataModule, tmp_path: Path) -> None:
    """Inside an epoch, and at its end, where the checkpoint counts it as completed."""
    fit(tmp_path, data, LastCheckpoint(str(tmp_path), every_minutes=99), max_epochs=1)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert internals.progress_of(checkpoint) == (5, False)
    loop = checkpoint["loops"]["fit_loop"]
    assert loop["epoch_progress"]["current"]["completed"] == 1

    class Stop(Callback):
        def on_train_batch_start(self, *given: Any) -> None:
            if given[-1] == 3:
                raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(tmp_path, data, LastCheckpoint(str(tmp_path), every_minutes=0), Stop())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert internals.progress_of(checkpoint) == (3, True)


def test_best_checkpoint_path_of_a_moved_run(data: TranscriptDataModule, tmp_path: Path) -> None:
    """All paths in ModelCheckpoint's state are moved, and nothing else."""
    best = BestCheckpoint(str(tmp_path / "here"))
    fit(tmp_path, data, best)
    state = best.state_dict()
    moved = internals.move_best(state, tmp_path / "there")
    assert "here" in str(state)
    assert str(moved) == str(state).replace("here", "there")


def test_later_events_are_purged(tmp_path: Path) -> None:
    for restart in (False, True):
        logger = TensorBoard(tmp_path, "run")
        if restart:
            internals.restart_events(logger, 4)
        for step in (2, 4, 6) if not restart else (7,):
            logger.log_metrics({"loss": 1.0}, step)
        logger.experiment.close()
    assert [step for step, _ in read_curves(tmp_path)["loss"]] == [2, 4, 7]
