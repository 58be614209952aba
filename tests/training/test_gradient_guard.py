import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

import train
from tests.support.commands import TINY, RunHere
from tests.support.training import LINES, STREAM, KilledError, Run
from trek_lm.errors import DivergedError, UserError
from trek_lm.runs.folder import read_metrics
from trek_lm.training.gradient_guard import PATIENCE, GradientGuard
from trek_lm.training.module import CharModule


class Poison(Callback):
    """Replaces the gradients of some steps, counted from 1, by a number; keeps the weights."""

    def __init__(self, number: float, *steps: int) -> None:
        self.number = number
        self.steps = steps
        self.weights: list[torch.Tensor] = []  # before each step, and after the last

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        self.weights.append(module.model.head.weight.detach().clone())

    def on_after_backward(self, trainer: pl.Trainer, module: Any) -> None:
        if trainer.global_step + 1 in self.steps:
            module.model.head.weight.grad[0, 0] = self.number

    def on_train_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.on_train_batch_start(trainer, module)


@pytest.fixture(params=["at once", "later"])
def guard_at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the checks of a CPU, and with those of a GPU, which does not wait at every step."""
    if request.param == "later":
        monkeypatch.setattr(GradientGuard, "_is_at_hand", lambda *_: False)
    return str(request.param)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1e7])
@pytest.mark.parametrize(("data", "step"), [(LINES, 2), (LINES, 4), (STREAM, 3)])
def test_bad_gradient_ends_the_run(
    data: dict[str, Any], step: int, number: float, guard_at: str, corpus: Path, tmp_path: Path
) -> None:
    """With lines, the fourth step is the last of an epoch."""
    run, poison = Run(tmp_path, corpus, data), Poison(number, step)
    with pytest.raises(DivergedError, match=rf"step {step}, gradient norm .*, learning rate 0\.\d"):
        run.fit(minutes=60, more=[poison, GradientGuard()])
    last = run.checkpoint()
    assert last["global_step"] == step
    kept = last["state_dict"]["model.head.weight"]
    if guard_at == "at once":
        assert torch.equal(kept, poison.weights[-1])
        assert len(poison.weights) == step
    assert kept.isfinite().all()
    run.fit(resume=True, more=[GradientGuard()])
    assert run.checkpoint()["epoch"] == 2


@pytest.mark.parametrize("data", [LINES, STREAM])
def test_bad_gradient_is_skipped(
    data: dict[str, Any],
    guard_at: str,
    corpus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, guard, poison = (
        Run(tmp_path, corpus, data),
        GradientGuard("skip"),
        Poison(float("nan"), 2, 3, 7),
    )
    with caplog.at_level(logging.WARNING, "trek_lm"):
        run.fit(more=[poison, guard])
    same = [torch.equal(*pair) for pair in zip(poison.weights, poison.weights[1:], strict=False)]
    if guard_at == "at once":
        assert [step for step, stays in enumerate(same, 1) if stays] == [2, 3, 7]
    assert guard.skipped == 3
    printed = [message.split(",")[0] for message in caplog.messages if "skipped" in message]
    assert printed == ["skipped step 2", "skipped step 3", "skipped step 7"]
    assert run.checkpoint()["state_dict"]["model.head.weight"].isfinite().all()
    run.fit(resume=True, max_epochs=4, more=[again := GradientGuard("skip")])
    assert again.skipped == 3


def test_state_with_nan_is_not_carried(corpus: Path, tmp_path: Path) -> None:
    class PoisonState(Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                module.states["fit"].recurrent[0].fill_(float("nan"))

    guard, run = GradientGuard("skip"), Run(tmp_path, corpus, STREAM)
    run.fit(more=[PoisonState(), guard])
    assert guard.skipped == 1
    assert [(name, step) for name, step, value in run.points if value != value] == [
        ("train/loss_step", 3)
    ]


def test_run_of_only_bad_gradients_ends(corpus: Path, tmp_path: Path) -> None:
    poison = Poison(float("nan"), *range(3, 1000))
    run = Run(tmp_path, corpus, {"batch_size": 1})
    with pytest.raises(DivergedError, match=f"step {PATIENCE + 3}, "):
        run.fit(more=[poison, GradientGuard("skip")], max_epochs=3)


def test_unchecked_steps_are_counted(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on a GPU that is saved between a bad step and the next logged one."""
    monkeypatch.setattr(GradientGuard, "_is_at_hand", lambda *_: False)
    monkeypatch.setattr(CharModule, "reports_step", lambda _: False)
    run, poison = Run(tmp_path, corpus, LINES), Poison(float("nan"), 2, 3)
    with pytest.raises(KilledError):
        run.fit(kill_at=3, minutes=0, more=[poison, GradientGuard("skip")])
    assert run.checkpoint()["global_step"] == 3
    assert run.checkpoint()["guard"] == {"skipped": 2, "in_a_row": 2}
    run.fit(resume=True, more=[again := GradientGuard("skip")])
    assert again.skipped == 2


def test_skipped_steps_are_those_of_the_whole_run(
    tmp_path: Path, corpus: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test loads the best checkpoint."""
    monkeypatch.chdir(tmp_path)
    poison = (
        "+callbacks.poison={_target_:tests.training.test_gradient_guard.Poison,_args_:[nan,30,31]}"
    )
    # 12 steps per epoch; the second epoch is the best.
    settings = ("callbacks.gradient_guard.mode=skip", "+trainer.check_val_every_n_epoch=2")
    source = ("data=files", f"data.root={corpus}", "hydra.run.dir=run")
    run_here(train, *source, *TINY, *settings, "trainer.max_epochs=3", poison)
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert (best["global_step"], best["guard"]["skipped"]) == (24, 0)
    assert read_metrics(tmp_path / "run")["skipped_steps"] == 2


def test_invalid_mode() -> None:
    with pytest.raises(
        UserError, match=r"callbacks\.gradient_guard\.mode=warn: choose stop or skip"
    ):
        GradientGuard("warn")


def test_diverged_run_reports_it(
    tmp_path: Path,
    corpus: Path,
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    source = ("data=files", f"data.root={corpus}", *TINY, "hydra.run.dir=run")
    wild = ("optim=sgd", "optim.lr=1e30", "trainer.gradient_clip_val=null")
    with pytest.raises(SystemExit) as left:
        run_here(train, *source, *wild)
    assert left.value.code == 2
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert printed.startswith("error: training diverged (step 2, gradient norm ")
    metrics = read_metrics(Path("run"))
    assert metrics["status"] == "failed"
    assert printed == f"error: {metrics['reason']}\n"
