import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from tests.conftest import Cli
from tests.data.test_datamodule import make
from tests.test_module import module_for, trainer_for
from trek_lm.callbacks import Recorder
from trek_lm.data.batching import Batch
from trek_lm.data.charset import Charset
from trek_lm.writeup import Report

SMALL = ("model.hidden=12", "trainer.max_epochs=2", "data.batch_size=8")


def test_the_report(corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Both parts after each epoch, with the figures of a test of its own; lines at the end."""
    caplog.set_level(logging.INFO)
    data = make(corpus, val_fraction=0.0, test_fraction=0.3)
    module = module_for(data.charset)
    module.speakers = {"ADA": 9, "BRAN": 1}
    report = Report(lines=20, temperature=0.5)
    trainer = trainer_for(tmp_path, max_epochs=2, callbacks=[Recorder(), report])
    trainer.fit(module, data)
    assert module.training
    printed = [r.message for r in caplog.records if r.name == "trek_lm.writeup"]
    epochs, generated = printed[:-20], printed[-20:]
    assert epochs[0::5] == ["EPOCH 0", "EPOCH 1"]
    for line, part in zip(epochs[1:3] + epochs[6:8], ["train", "test"] * 2, strict=True):
        assert re.fullmatch(
            rf"     >> {part:<5} loss \d\.\d{{5}}  accuracy \d\.\d{{3}}  in \d+\.\d s", line
        )
    assert epochs[1] != epochs[6]
    shown = [line.partition(":")[2].strip() for line in (*epochs[3:5], *epochs[8:10])]
    assert shown[0] != shown[2]
    assert all(line[0] == output[0] for line, output in (shown[:2], shown[2:]))
    trainer.test(module, data, verbose=False)
    tested = trainer.callback_metrics
    assert f"loss {tested['test/loss']:.5f}  accuracy {tested['test/acc']:.3f}" in epochs[7]
    assert {line.split(": ")[1] for line in generated} == {"ADA", "BRAN"}
    assert all(line.startswith("GENERATED: ") for line in generated)


def test_without_a_test_part_or_speakers_there_is_less_to_say(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    data = make(corpus, test_fraction=0.0)
    module = module_for(data.charset)
    module.speakers = {}
    trainer_for(tmp_path, callbacks=[Recorder(), Report(3, 0.5)]).fit(module, data)
    printed = [r.message for r in caplog.records if r.name == "trek_lm.writeup"]
    assert [line.split()[:2] for line in printed] == [["EPOCH", "0"], [">>", "train"]]


class Plain(nn.Module):
    """The write-up's model as one would type it: packed one-hot sequences."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(symbols, 200, 3)
        self.head = nn.Sequential(nn.Linear(200, 200), nn.Dropout(0.1), nn.Linear(200, symbols))

    def loss(self, lines: list[Tensor]) -> Tensor:
        """Of ids `(N_i,)`: mean over the characters after each line's first one."""
        symbols = self.recurrent.input_size
        lengths = torch.tensor([len(ids) - 1 for ids in lines])
        one_hot = pad_sequence([nn.functional.one_hot(ids[:-1], symbols).float() for ids in lines])
        packed = pack_padded_sequence(one_hot, lengths, enforce_sorted=False)
        targets = pad_sequence([ids[1:] for ids in lines])
        targets = pack_padded_sequence(targets, lengths, enforce_sorted=False).data
        return nn.functional.cross_entropy(self.head(self.recurrent(packed)[0].data), targets)


@pytest.mark.parametrize("engine", ["torch", "reference"])
def test_a_batch_is_that_of_packed_sequences(corpus: Path, engine: str) -> None:
    """Loss and all gradients, to 1e-5."""
    data = make(corpus, batch_size=16)
    batch = next(iter(data.train_dataloader()))
    assert isinstance(batch, Batch)
    assert (batch.targets < 0).any(), "lines of unequal length"
    settings: dict[str, Any] = {
        "hidden": 200,
        "layers": 3,
        "embedding": "onehot",
        "head": "writeup",
        "engine": engine,
    }
    module = module_for(Charset.writeup(), **settings).eval()
    plain = Plain(72).eval()
    plain.load_state_dict(
        {k: v for k, v in module.model.state_dict().items() if not k.startswith("embedding")}
    )
    loss = module._step(batch, "fit") / batch.characters
    loss.backward()
    lines = [
        torch.cat([ids[:1], following[following >= 0]])
        for ids, following in zip(batch.inputs.T, batch.targets.T, strict=True)
    ]
    expected = plain.loss(lines)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-5)
    for name, parameter in plain.named_parameters():
        gradient = module.model.get_parameter(name).grad
        torch.testing.assert_close(gradient, parameter.grad, rtol=0, atol=1e-5)


def test_the_sweep(corpus: Path, tmp_path: Path, run_cli: Cli) -> None:
    """Four runs; curves of the test part after each epoch, laid out with those of training."""
    source = ("data=files", f"data.root={corpus}")
    done = run_cli("train.py", "sweep=writeup", *source, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("EPOCH 1\n") == 4
    folders = sorted(path.parent for path in tmp_path.glob("outputs/sweeps/*/*/metrics.json"))
    chosen = []
    for folder in folders:
        events = EventAccumulator(str(folder)).Reload()
        for tag in ("train/loss", "train/acc", "train/seconds", "test/seconds"):
            assert len(events.Scalars(tag)) == 2, tag
        *each, final = [event.value for event in events.Scalars("test/acc")]
        metrics = json.loads((folder / "metrics.json").read_text())
        assert len(each) == 2
        assert final == each[-1] == pytest.approx(metrics["test/acc"])
        assert metrics["val/loss"] is None
        assert metrics["steps"] == 2 * -(-84 // 8)  # 70% of 120 lines
        config = (folder / ".hydra" / "config.yaml").read_text()
        chosen.append(re.findall(r"cell: (\w+)", config) + re.findall(r"torch.optim.(\w+)", config))
    assert chosen == [["lstm", "SGD"], ["gru", "SGD"], ["lstm", "Adagrad"], ["gru", "Adagrad"]]
