"""The write-up's report of a run: scores after each epoch, a sample line, generated lines."""

import logging
import random
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.generation.api import evaluating
from trek_lm.generation.sampling import Temperature
from trek_lm.runs.dashboard import Lines, as_code, tensorboard_writer
from trek_lm.settings import settings
from trek_lm.training.module import CharModule
from trek_lm.training.trainer import data_of

log = logging.getLogger(__name__)

LINE_END = "|"  # shown for a predicted newline, to keep characters aligned
WIDTH = 100  # characters per line in TensorBoard


@settings("callbacks.report.")
class ReportSettings:
    """Settings of the lines generated at the end of a report."""

    lines: Lines  # speakers are drawn uniformly
    temperature: Temperature  # of these lines


class Report(Callback):
    """Evaluates the test split after each epoch, and logs what the write-up printed.

    Testing that often is the write-up's protocol; nothing is selected by it. Each epoch adds a
    random test line and the model's teacher-forced output for it; the last one adds generated
    lines. Must come after Recorder, which measures the seconds of training.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = ReportSettings(**settings)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, CharModule)
        data = data_of(trainer)
        train = trainer.callback_metrics | module.scores("fit", reset=False)
        text = [f"EPOCH {trainer.current_epoch}", _scores_of("train", train)]
        if data.has("test") and trainer.limit_test_batches:
            test = _evaluate(trainer, module, data)
            module.log_now(test)
            line = data.random_line("test", trainer.current_epoch)
            output = module.as_char_lm().teacher_forced(line).removesuffix("\n")
            output = output.replace("\n", LINE_END)
            text += [_scores_of("test", test)]
            text += [f"     sample line:   {line}", f"     sample output: {output}"]
            if writer := tensorboard_writer(trainer):
                pair = as_code(_interleaved(line, output))
                writer.add_text("sample line", pair, trainer.global_step)
        for each in text:
            log.info("%s", each)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        assert isinstance(module, CharModule)
        speakers = list(module.speakers)
        if not speakers or not self.settings.lines or not trainer.is_global_zero:
            return
        drawn = random.Random(0).choices(speakers, k=self.settings.lines)
        lines = module.as_char_lm().generate(
            speaker=drawn, n=self.settings.lines, temperature=self.settings.temperature, seed=0
        )
        for line in lines:
            log.info("GENERATED: %s", line)


@torch.inference_mode()
def _evaluate(trainer: Trainer, module: CharModule, data: TranscriptDataModule) -> dict[str, float]:
    """The current model's scores on the test split, and the seconds that took."""
    started = time.perf_counter()
    batches = data.test_dataloader()
    limit = trainer.limit_test_batches
    count = limit if isinstance(limit, int) else int(limit * len(batches))
    with evaluating(module), trainer.precision_plugin.forward_context():
        for number, batch in enumerate(islice(batches, count)):
            module.test_step(trainer.strategy.batch_to_device(batch), number)
    scores = {name: float(value) for name, value in module.scores("test").items()}
    return scores | {"test/seconds": time.perf_counter() - started}


def _scores_of(split: str, scores: Mapping[str, float | Tensor]) -> str:
    loss, acc, seconds = (float(scores[f"{split}/{key}"]) for key in ("loss", "acc", "seconds"))
    return f"     >> {split:<5} loss {loss:.5f}  accuracy {acc:.3f}  in {seconds:.1f} s"


def _interleaved(line: str, output: str) -> str:
    starts = range(0, len(line), WIDTH)
    return "\n".join(text[start : start + WIDTH] for start in starts for text in (line, output))
