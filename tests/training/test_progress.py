import logging
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from tests.support.corpora import data_from
from tests.support.training import module_for, trainer_for
from trek_lm.training.checkpointing import BestCheckpoint
from trek_lm.training.progress import Progress
from trek_lm.training.recorder import Recorder


def fit(
    folder: Path,
    corpus: Path,
    callbacks: list[Any],
    epochs: int = 2,
    trainer_options: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Any:
    data = data_from(corpus, **options)
    module = module_for(data.charset)
    trainer = trainer_for(folder, max_epochs=epochs, callbacks=callbacks, **trainer_options)
    trainer.fit(module, data)
    return trainer, data


def test_recorder_excludes_evaluation_time(corpus: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    _, data = fit(tmp_path, corpus, [recorder])
    assert recorder.epochs == 2
    assert recorder.characters == 2 * data.characters["train"]
    assert recorder.chars_per_second == recorder.characters / recorder.train_seconds
    assert {"train/loss", "train/acc"} <= set(recorder.train)
    assert {"val/loss", "val/acc", "val/bpc", "val/perplexity"} == set(recorder.val)


def test_recorder_excludes_evaluation(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a fake clock: one second per training step, a thousand per validation batch."""
    clock = SimpleNamespace(now=0)

    class Slow(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            clock.now += 1

        def on_validation_batch_end(self, *_: Any) -> None:
            clock.now += 1000

    monkeypatch.setattr(
        "trek_lm.training.recorder.time", SimpleNamespace(perf_counter=lambda: clock.now)
    )
    recorder = Recorder()
    trainer, _ = fit(tmp_path, corpus, [recorder, Slow()], epochs=3)
    assert recorder.train_seconds == trainer.global_step
    assert clock.now > 3000


def test_recorder_keeps_validation_of_best_epoch(corpus: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    trainer, _ = fit(tmp_path, corpus, [recorder])

    def validate(loss: float) -> None:
        trainer.callback_metrics.update({"val/loss": torch.tensor(loss)})
        recorder.on_validation_end(trainer, trainer.lightning_module)

    before = recorder.val["val/loss"]
    validate(before + 1)
    assert recorder.val["val/loss"] == before
    validate(before - 1)
    assert recorder.val["val/loss"] == pytest.approx(before - 1)


@pytest.mark.parametrize("val_fraction", [0.1, 0.0])
def test_checkpoints_load_with_weights_only(
    corpus: Path, tmp_path: Path, val_fraction: float
) -> None:
    checkpoints = BestCheckpoint(str(tmp_path / "checkpoints"))
    fit(tmp_path, corpus, [checkpoints], val_fraction=val_fraction)
    content = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert content["trek_lm"]["model"]["hidden"] == 8
    if not val_fraction:  # no validation split: the last epoch is the best
        assert content["epoch"] == 1


def test_run_without_validation_has_a_best_checkpoint(corpus: Path, tmp_path: Path) -> None:
    fit(tmp_path, corpus, [BestCheckpoint(str(tmp_path))], 2, {"max_steps": 2})
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 2


def test_progress_prints_one_line_per_epoch_without_a_terminal(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fit(tmp_path, corpus, [Recorder(), Progress()], epochs=2)
    lines = [line for line in caplog.messages if line.startswith("epoch")]
    number = r"\d\.\d{3}"
    for k, line in enumerate(lines):
        assert re.fullmatch(
            rf"epoch {k + 1}/2  train loss {number} acc {number}  val loss {number} acc {number}"
            r"  \d+\.\dk chars/s(  \d+:\d\d left)?",
            line,
        ), line
    assert len(lines) == 2


def test_epoch_line_has_no_validation_of_another_epoch(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fit(tmp_path, corpus, [Recorder(), Progress()], 4, {"check_val_every_n_epoch": 2})
    lines = [line for line in caplog.messages if line.startswith("epoch")]
    assert ["val loss" in line for line in lines] == [False, True, False, True]


@pytest.mark.parametrize("limits", [{}, {"accumulate_grad_batches": 3}, {"limit_train_batches": 3}])
def test_progress_bar_reaches_its_total(
    limits: dict[str, Any], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shares: list[float] = []
    close = Progress._close

    def record(self: Progress) -> None:
        if self._bar is not None:
            shares.append(self._bar.n / self._bar.total)
        close(self)

    monkeypatch.setattr(Progress, "_close", record)
    fit(tmp_path, corpus, [Recorder(), Progress()], 2, limits, batch_size=24)
    assert shares == [pytest.approx(1, abs=0.1)]  # batches differ in their number of characters


def test_progress_draws_a_bar_on_a_terminal(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    fit(tmp_path, corpus, [Recorder(), Progress()], epochs=2)
    printed = capsys.readouterr().out
    assert "█" in printed
    assert re.search(r"loss \d\.\d{3}  acc 0\.\d{3}", printed)
    assert "chars/s" in printed
    assert "left" in printed
