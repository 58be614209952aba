import math
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from tests.support.corpora import data_from
from tests.support.training import Points, module_for, trainer_for
from trek_lm.data.batching import IGNORE, Batch
from trek_lm.models.char_lm import RecurrentLM
from trek_lm.runs.dashboard import TensorBoard
from trek_lm.runs.folder import read_curves
from trek_lm.training.metrics import CharMetrics
from trek_lm.training.module import CharModule
from trek_lm.training.optim import Joined
from trek_lm.training.recorder import Recorder
from trek_lm.training.schedules import exponential


def test_metrics_weigh_unequal_batches_by_characters() -> None:
    """By hand: two of three characters correct, then none of one; losses 2 + 1 + 3 and 6."""
    metrics = CharMetrics()
    logits = torch.eye(4)[torch.tensor([[0, 1], [2, 3]])]  # argmax: 0 1 / 2 3
    metrics.update(torch.tensor(6.0), logits, torch.tensor([[0, 2], [2, IGNORE]]))
    metrics.update(torch.tensor(6.0), logits[:1, :1], torch.tensor([[1]]))
    scores = metrics.compute()
    assert float(scores["loss"]) == 12 / 4
    assert float(scores["acc"]) == 2 / 4
    assert float(scores["bpc"]) == pytest.approx(3 / math.log(2))
    assert float(scores["perplexity"]) == pytest.approx(math.exp(3))
    assert metrics.so_far() == (3, 0.5)
    metrics.reset()
    metrics.update(torch.tensor(1.0), logits[:1, :1], torch.tensor([[0]]))
    assert metrics.so_far() == (1, 1)


def test_running_metrics_without_finite_values() -> None:
    metrics = CharMetrics(finite=True)
    metrics.update(torch.tensor(math.inf), torch.eye(4)[None], torch.tensor([[0, 1, 2, 3]]))
    assert all(math.isnan(score) for score in metrics.so_far())


def test_accuracy_matches_torchmetrics() -> None:
    metrics, reference = CharMetrics(), MulticlassAccuracy(9, average="micro", ignore_index=IGNORE)
    generator = torch.Generator().manual_seed(0)
    for columns in (5, 1, 3):
        logits = torch.randn(6, columns, 9, generator=generator)
        targets = torch.randint(9, (6, columns), generator=generator)
        targets[torch.rand(6, columns, generator=generator) < 0.3] = IGNORE
        metrics.update(torch.zeros(()), logits, targets)
        reference.update(logits.flatten(0, 1), targets.flatten())
    assert float(metrics.compute()["acc"]) == pytest.approx(float(reference.compute()))


def test_batch_without_targets_changes_no_metric() -> None:
    metrics = CharMetrics()
    logits = torch.eye(2)[:1, None]  # (1, 1, 2), argmax 0
    metrics.update(torch.tensor(2.0), logits, torch.tensor([[0]]))
    metrics.update(torch.tensor(0.0), logits, torch.tensor([[IGNORE]]))
    assert metrics.so_far() == (2, 1)


class Step(Callback):
    """Stops training after one step and keeps the gradients."""

    gradients: list[Tensor]

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.gradients = [
            p.grad.clone() for p in pl_module.model.parameters() if p.grad is not None
        ]


@pytest.mark.parametrize("weigh_by", ["characters", "batches"])
def test_gradient_is_of_the_mean_over_characters(
    corpus: Path, tmp_path: Path, weigh_by: str
) -> None:
    """Divided by the characters of the batch, or by those of the epoch's average batch."""
    data, step = data_from(corpus, weigh_by=weigh_by, batch_size=9), Step()
    module = module_for(data.charset)
    before = RecurrentLM(**module.model.spec)
    before.load_state_dict(module.model.state_dict())
    trainer_for(tmp_path, max_steps=1, callbacks=[step], limit_val_batches=0).fit(module, data)
    batch = next(iter(data.train_dataloader()))
    characters = {
        "characters": data.characters["train"] / len(data.train_dataloader()),
        "batches": int((batch.targets != IGNORE).sum()),
    }
    logits, _ = before(batch.inputs)
    loss = functional.cross_entropy(
        logits.flatten(0, 1), batch.targets.flatten(), reduction="sum", ignore_index=IGNORE
    )
    (loss / characters[weigh_by]).backward()
    expected = [p.grad for p in before.parameters() if p.grad is not None]
    for gradient, other in zip(step.gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other)


def test_logged_step_loss_is_the_batch_mean(corpus: Path, tmp_path: Path) -> None:
    """Whatever its number of characters."""
    data, points = data_from(corpus, batch_size=9), list[tuple[str, int, float]]()
    module = module_for(data.charset, lr=1e-9)
    trainer_for(tmp_path, logger=Points(points), log_every_n_steps=1).fit(module, data)
    losses = [value for name, _, value in points if name == "train/loss_step"]
    for batch, loss in zip(data_from(corpus, batch_size=9).train_dataloader(), losses, strict=True):
        logits, _ = module(batch.inputs)
        flat = logits.detach().flatten(0, 1)
        expected = functional.cross_entropy(flat, batch.targets.flatten(), ignore_index=IGNORE)
        assert loss == pytest.approx(float(expected), abs=1e-4)


def test_average_over_ranks_equals_one_process(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 3 lines on 2 ranks: the shares are of unequal size, and the last one is empty."""

    def gradients(rank: int, ranks: int) -> list[Tensor]:
        data = data_from(corpus, batch_size=3)
        stub = SimpleNamespace(
            global_rank=rank,
            world_size=ranks,
            global_step=0,
            accumulate_grad_batches=1,
            log_every_n_steps=100,
        )
        monkeypatch.setattr(data, "trainer", stub)
        module = module_for(data.charset)
        monkeypatch.setattr(CharModule, "trainer", stub)
        monkeypatch.setattr(module, "log", lambda *_, **__: None)
        for number, batch in enumerate(data.train_dataloader()):
            module.training_step(batch, number).backward()
        return [p.grad for p in module.model.parameters() if p.grad is not None]

    for alone, *shares in zip(gradients(0, 1), gradients(0, 2), gradients(1, 2), strict=True):
        torch.testing.assert_close(torch.stack(shares).mean(0), alone)


@torch.no_grad()
def test_run_metrics_equal_a_plain_evaluation(corpus: Path, tmp_path: Path) -> None:
    data = data_from(corpus, eval_batch_size=5)
    module = module_for(data.charset)
    trainer = trainer_for(tmp_path)
    with torch.enable_grad():
        trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    scores = trainer.callback_metrics
    loss, correct, count = 0.0, 0, 0
    part = data._encoded["test"]
    for start, length in zip(part.starts, part.lengths, strict=True):  # without batching
        ids = part.text[start : start + length].long()
        logits = module.model(ids[:-1, None])[0][:, 0]
        loss += float(functional.cross_entropy(logits, ids[1:], reduction="sum"))
        correct += int((logits.argmax(-1) == ids[1:]).sum())
        count += len(ids) - 1
    assert count == data.characters["test"]
    assert float(scores["test/loss"]) == pytest.approx(loss / count, rel=1e-5)
    assert float(scores["test/acc"]) == pytest.approx(correct / count)
    assert float(scores["test/bpc"]) == pytest.approx(loss / count / math.log(2), rel=1e-5)
    assert float(scores["test/perplexity"]) == pytest.approx(math.exp(loss / count), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("size", [1, 3, 128])
def test_stream_is_evaluated_as_one_text(size: int, corpus: Path, tmp_path: Path) -> None:
    """Every character is predicted from all before it, whatever `data.eval_batch_size`."""
    data = data_from(
        corpus, batching="stream", eval_batch_size=size, sequence_length=7, split="position"
    )
    module = module_for(data.charset, matches=[2, 4])
    trainer = trainer_for(tmp_path)
    trainer.test(module, data, verbose=False)
    ids = data._encoded["test"].joined().long()
    expected = functional.cross_entropy(module.model(ids[:-1, None])[0][:, 0], ids[1:])
    assert float(trainer.callback_metrics["test/loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_validation_keeps_the_training_state(corpus: Path) -> None:
    data = data_from(corpus, batching="stream")
    module = module_for(data.charset)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    first, second = _two(iter(data.train_dataloader()))
    module._step(first, "fit")
    alone = module._step(second, "fit")
    module._step(first, "fit")
    module._step(first, "val")
    module._step(second, "val")
    assert float(module._step(second, "fit").detach()) == float(alone.detach())
    assert all(not part.requires_grad for part in module.states["fit"].recurrent)


def _two(batches: Iterator[Batch]) -> tuple[Batch, Batch]:
    return next(batches), next(batches)


def in_two(parameters: Iterable[nn.Parameter]) -> Joined:
    first, *others = parameters
    return Joined([torch.optim.SGD([first], 0.1), torch.optim.SGD(others, 0.1)])


@pytest.mark.parametrize("ngrams", [0, 3])
def test_clipping_covers_joined_optimizers(ngrams: int, corpus: Path, tmp_path: Path) -> None:
    weights = []
    for optimizer in (partial(torch.optim.SGD, lr=0.1), in_two):
        data = data_from(corpus)
        module = module_for(data.charset, ngrams=ngrams)
        module.make_optimizer = optimizer
        module.make_table_optimizer = partial(torch.optim.Adagrad, lr=0.1)
        trainer_for(tmp_path, max_steps=3, gradient_clip_val=0.01).fit(module, data)
        weights.append(module.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_schedule_steps_once_per_batch(corpus: Path, tmp_path: Path) -> None:
    data = data_from(corpus)
    module = module_for(data.charset, lr=1.0)
    asked: list[tuple[int, int]] = []

    def schedule(optimizer: Any, steps: int, epoch_steps: int) -> Any:
        asked.append((steps, epoch_steps))
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

    module.make_schedule = schedule
    trainer = trainer_for(tmp_path, max_epochs=3)
    trainer.fit(module, data)
    steps = len(data.train_dataloader())
    assert asked == [(3 * steps, steps)]
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1 / (1 + 3 * steps))


def test_accumulated_gradients_mean_fewer_steps(corpus: Path, tmp_path: Path) -> None:
    data = data_from(corpus)
    module = module_for(data.charset, lr=1.0)
    module.make_schedule = partial(exponential, gamma=0.5)
    batches = len(data.train_dataloader())
    together = batches - 1  # so that the last step has fewer
    trainer = trainer_for(tmp_path, max_epochs=3, accumulate_grad_batches=together)
    trainer.fit(module, data)
    assert trainer.global_step == 6
    assert trainer.optimizers[0].param_groups[0]["lr"] == 1 / 8


def test_sanity_check_is_not_logged(corpus: Path, tmp_path: Path) -> None:
    data, recorder = data_from(corpus), Recorder()
    logger = TensorBoard(tmp_path, "lstm")
    trainer = trainer_for(
        tmp_path, num_sanity_val_steps=1, callbacks=[recorder], logger=logger, max_epochs=2
    )
    trainer.fit(module_for(data.charset), data)
    batches = len(data.train_dataloader())
    assert [step for step, _ in read_curves(tmp_path)["val/loss"]] == [batches, 2 * batches]
    assert recorder.val["val/loss"] == float(trainer.callback_metrics["val/loss"])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_engines_train_to_the_same_weights(cell: str, corpus: Path, tmp_path: Path) -> None:
    trained = []
    for engine in ("torch", "native", "reference"):
        data = data_from(corpus)
        module = module_for(data.charset, cell=cell, engine=engine, layers=2)
        trainer_for(tmp_path, max_epochs=2).fit(module, data)
        trained.append(module.model)
    *fast, reference = trained
    for model in fast:
        torch.testing.assert_close(model.state_dict(), reference.state_dict())
    there = RecurrentLM(**trained[0].spec)
    there.load_state_dict(trained[1].state_dict())
