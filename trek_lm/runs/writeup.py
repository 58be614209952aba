"""The write-up's report of a run: both parts after each epoch, a sample line, generated lines."""

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
from trek_lm.runs.dashboard import Lines, as_code, writer
from trek_lm.settings import settings
from trek_lm.training.module import CharModule
from trek_lm.training.trainer import data_of

log = logging.getLogger(__name__)

LINE_END = "|"  # how a predicted newline is shown: characters stay below those they stand for
BOARD_WIDTH = 100  # characters of a line of text in TensorBoard


@settings("callbacks.report.")
class ReportSettings:
    """The lines that stand at the end of a report."""

    lines: Lines  # any speaker as likely
    temperature: Temperature  # of these


class Report(Callback):
    """After each epoch evaluates the test part, and prints and logs what the write-up printed.

    To look at the test part so often is its protocol; nothing is chosen by it. With each epoch
    comes a random test line and what the model makes of it, teacher-forced; with the last one
    come generated lines. Stands after Recorder, which takes the seconds of training.
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
            if board := writer(trainer):
                pair = as_code(_one_below_the_other(line, output))
                board.add_text("sample line", pair, trainer.global_step)
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
    """The scores of the test part by the model as it is, and the seconds that took."""
    started = time.perf_counter()
    batches = data.test_dataloader()
    limit = trainer.limit_test_batches
    count = limit if isinstance(limit, int) else int(limit * len(batches))
    with evaluating(module), trainer.precision_plugin.forward_context():
        for number, batch in enumerate(islice(batches, count)):
            module.test_step(trainer.strategy.batch_to_device(batch), number)
    scores = {name: float(value) for name, value in module.scores("test").items()}
    return scores | {"test/seconds": time.perf_counter() - started}


def _scores_of(part: str, scores: Mapping[str, float | Tensor]) -> str:
    loss, acc, seconds = (float(scores[f"{part}/{key}"]) for key in ("loss", "acc", "seconds"))
    return f"     >> {part:<5} loss {loss:.5f}  accuracy {acc:.3f}  in {seconds:.1f} s"


def _one_below_the_other(line: str, output: str) -> str:
    places = range(0, len(line), BOARD_WIDTH)
    return "\n".join(text[at : at + BOARD_WIDTH] for at in places for text in (line, output))
