import copy
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

import train
from tests.support.commands import RunHere, composed
from tests.support.corpora import data_from
from tests.support.runs import events_of
from tests.support.training import module_for, trainer_for
from trek_lm.data.batching import Batch
from trek_lm.runs.writeup import Report
from trek_lm.training.module import CharModule
from trek_lm.training.recorder import Recorder

SMALL = ("model.hidden=12", "trainer.max_epochs=2", "data.batch_size=8")


def test_report_of_each_epoch(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both splits after each epoch, with the metrics of a separate test; lines at the end."""
    caplog.set_level(logging.INFO)
    data = data_from(corpus, val_fraction=0.0, test_fraction=0.3)
    module = module_for(data.charset)
    module.speakers = {"ADA": 9, "BRAN": 1}
    report = Report(lines=20, temperature=0.5)
    trainer = trainer_for(tmp_path, max_epochs=2, callbacks=[Recorder(), report])
    trainer.fit(module, data)
    assert module.training
    printed = [r.message for r in caplog.records if r.name == "trek_lm.runs.writeup"]
    epochs, generated = printed[:-20], printed[-20:]
    assert epochs[0::5] == ["EPOCH 0", "EPOCH 1"]
    for line, part in zip(epochs[1:3] + epochs[6:8], ["train", "test"] * 2, strict=True):
        assert re.fullmatch(
            rf"     >> {part:<5} loss \d\.\d{{5}}  accuracy \d\.\d{{3}}  in \d+\.\d s", line
        )
    assert epochs[1] != epochs[6]
    lines, outputs = epochs[3::5], epochs[4::5]
    assert all(line.startswith("     sample line:   ") for line in lines)
    assert all(output.startswith("     sample output: ") for output in outputs)
    assert lines[0] != lines[1]
    last = lines[1].removeprefix("     sample line:   ")
    output = module.as_char_lm().teacher_forced(last).removesuffix("\n").replace("\n", "|")
    assert outputs[1] == f"     sample output: {output}"
    trainer.test(module, data, verbose=False)
    tested = trainer.callback_metrics
    assert f"loss {tested['test/loss']:.5f}  accuracy {tested['test/acc']:.3f}" in epochs[7]
    assert {line.split(": ")[1] for line in generated} == {"ADA", "BRAN"}
    assert all(line.startswith("GENERATED: ") for line in generated)


def test_report_without_test_split_or_speakers(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = data_from(corpus, test_fraction=0.0)
    module = module_for(data.charset)
    module.speakers = {}
    trainer_for(tmp_path, callbacks=[Recorder(), Report(lines=3, temperature=0.5)]).fit(
        module, data
    )
    printed = [r.message for r in caplog.records if r.name == "trek_lm.runs.writeup"]
    assert [line.split()[:2] for line in printed] == [["EPOCH", "0"], [">>", "train"]]


def test_report_does_not_change_training(corpus: Path, tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [Recorder(), Report(lines=3, temperature=0.5)]):
        data = data_from(corpus)
        module = module_for(data.charset, dropout=0.3)
        trainer_for(tmp_path, max_epochs=2, callbacks=callbacks).fit(module, data)
        weights.append(module.state_dict())
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("experiment", "cell", "optimizer", "lr", "gamma"),
    [
        ("writeup", "lstm", "SGD", 0.45, 0.95),
        ("writeup_gru", "gru", "SGD", 0.3, 0.95),
        ("writeup_adagrad", "lstm", "Adagrad", 0.015, 1.0),
        ("writeup_gru_adagrad", "gru", "Adagrad", 0.007, 1.0),
    ],
)
def test_experiments_have_the_settings_of_the_writeup(
    experiment: str, cell: str, optimizer: str, lr: float, gamma: float
) -> None:
    config = composed(f"experiment={experiment}")
    assert OmegaConf.to_container(config.model) == {
        "_convert_": "all",
        **{"_target_": "trek_lm.models.char_lm.RecurrentLM", "cell": cell, "engine": "auto"},
        **{"hidden": 200, "layers": 3, "dropout": 0.0, "embedding": "onehot"},
        **{"head": "writeup", "head_dropout": 0.1, "head_rank": 64, "weight_drop": 0.0},
        **{"ngrams": 0, "ngram_rows": 2**18, "ngram_dropout": 0.0},
        **{"matches": [], "match_rows": 2**12},
    }
    made = config.optim.optimizer
    assert made._target_ == f"torch.optim.{optimizer}"
    assert (made.lr, made.get("momentum")) == (lr, 0.9 if optimizer == "SGD" else None)
    assert config.optim.schedule._target_ == "trek_lm.training.schedules.exponential"
    assert config.optim.schedule.gamma == gamma
    data = config.data
    assert (data.split, data.val_fraction, data.test_fraction) == ("line", 0, 0.3)
    assert (data.charset, data.batching) == ("writeup", "lines")
    trainer = config.trainer
    assert (trainer.max_epochs, trainer.precision) == (15, "32-true")
    assert trainer.gradient_clip_val is None
    assert config.callbacks.report.temperature == 0.5


def test_given_optimizer_replaces_the_experiments() -> None:
    optim = composed("experiment=writeup", "optim=adagrad").optim
    assert set(optim.optimizer) == {"_target_", "_partial_", "_convert_", "lr", "eps"}


class Plain(nn.Module):
    """The write-up's model on packed one-hot sequences."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(characters, 200, 3)
        self.head = nn.Sequential(nn.Linear(200, 200), nn.Dropout(0), nn.Linear(200, characters))

    def loss(self, lines: list[Tensor]) -> Tensor:
        """Ids `(N_i,)` per line; the mean over all characters but the first of each line."""
        characters = self.recurrent.input_size
        lengths = torch.tensor([len(ids) - 1 for ids in lines])
        one_hot = pad_sequence(
            [nn.functional.one_hot(ids[:-1], characters).float() for ids in lines]
        )
        packed = pack_padded_sequence(one_hot, lengths, enforce_sorted=False)
        targets = pad_sequence([ids[1:] for ids in lines])
        targets = pack_padded_sequence(targets, lengths, enforce_sorted=False).data
        return nn.functional.cross_entropy(self.head(self.recurrent(packed)[0].data), targets)


class FirstStep(Callback):
    """Keeps the batch, the loss and the gradients of the first step."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        self.batch = batch

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.start = copy.deepcopy(pl_module.model.state_dict())

    def on_after_backward(self, trainer: pl.Trainer, pl_module: Any) -> None:
        parameters = pl_module.model.named_parameters()
        self.gradients = {name: p.grad.clone() for name, p in parameters if p.grad is not None}

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.loss = outputs["loss"]


@pytest.mark.parametrize(
    "engine", ["torch", "native", pytest.param("reference", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("by", ["lines", "characters"])
def test_step_equals_packed_sequences(tmp_path: Path, engine: str, by: str) -> None:
    """Loss and gradients agree to 1e-5; without dropout, which is random."""
    config = composed(
        *("experiment=writeup", "model.head_dropout=0"),
        *(f"model.engine={engine}", f"data.batch_by={by}"),
    )
    data = instantiate(config.data)
    data.setup()
    module = CharModule(
        instantiate(config.model, vocab_size=len(data.charset)),
        instantiate(config.optim.optimizer),
        instantiate(config.optim.schedule),
        charset=data.charset,
        speakers={},
    )
    first = FirstStep()
    trainer_for(tmp_path, max_epochs=1, max_steps=1, callbacks=[first]).fit(module, data)
    inputs, targets = first.batch.inputs.T, first.batch.targets.T
    assert (targets < 0).any(), "lines of unequal length"
    lines = [
        torch.cat([given[:1], following[following >= 0]])
        for given, following in zip(inputs, targets, strict=True)
    ]
    plain = Plain(72)
    plain.load_state_dict({k: v for k, v in first.start.items() if not k.startswith("embedding")})
    expected = plain.loss(lines)
    expected.backward()
    torch.testing.assert_close(first.loss, expected.detach(), rtol=0, atol=1e-5)
    assert set(first.gradients) == {name for name, _ in plain.named_parameters()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(first.gradients[name], parameter.grad, rtol=0, atol=1e-5)


def test_writeup_sweep(
    corpus: Path, tmp_path: Path, run_here: RunHere, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four runs; the test curves share charts with the training curves."""
    source = ("data=files", f"data.root={corpus}")
    run_here(train, "sweep=writeup", *source, *SMALL)
    assert capsys.readouterr().out.count("EPOCH 1\n") == 4
    folders = sorted(path.parent for path in tmp_path.glob("outputs/sweeps/*/*/metrics.json"))
    chosen = []
    for folder in folders:
        events = events_of(folder)
        for tag in ("train/loss", "train/acc", "train/seconds", "test/seconds"):
            assert len(events.Scalars(tag)) == 2, tag
        *each, final = [event.value for event in events.Scalars("test/acc")]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert len(each) == 2
        assert final == each[-1] == pytest.approx(metrics["test/acc"])
        assert metrics["val/loss"] is None
        assert metrics["steps"] == 2 * -(-84 // 8)  # 70% of 120 lines
        layout = str(events.Tensors("custom_scalars__config__")[0].tensor_proto)
        for curve in ("train/loss", "test/loss", "train/acc", "test/acc"):
            assert f"{curve}$" in layout
        assert "sample line/text_summary" in events.Tags()["tensors"]
        config = OmegaConf.load(folder / ".hydra" / "config.yaml")
        chosen.append((config.model.cell, config.optim.optimizer._target_.split(".")[-1]))
    assert chosen == [("lstm", "SGD"), ("gru", "SGD"), ("lstm", "Adagrad"), ("gru", "Adagrad")]
