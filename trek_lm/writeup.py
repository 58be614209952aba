"""The write-up's report of a run: both parts after each epoch, a sample line, generated lines."""

import logging
import random
import time
from collections.abc import Mapping

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from trek_lm.dashboard import as_code, writer
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.module import CharModule

log = logging.getLogger(__name__)

LINE_END = "|"  # how a predicted newline is shown: characters stay below those they stand for


class Report(Callback):
    """After each epoch evaluates the test part, and prints and logs what the write-up printed.

    To look at the test part so often is its protocol; nothing is chosen by it. With each epoch
    comes a random test line and what the model makes of it, teacher-forced; with the last one
    come generated lines.
    """

    def __init__(self, lines: int, temperature: float) -> None:
        """`lines`: how many are generated at the end, at `temperature`, any speaker as likely."""
        self.lines = lines
        self.temperature = temperature

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, CharModule)
        data: TranscriptDataModule = trainer.datamodule  # type: ignore[attr-defined]
        epoch = trainer.current_epoch
        train = {
            f"train/{key}": value for key, value in pl_module.metrics_of("fit").compute().items()
        }
        log.info("EPOCH %d", epoch)
        _tell("train", trainer.callback_metrics | train)  # there: the seconds, by Recorder
        if not data.has("test"):
            return
        test = _evaluate(trainer, pl_module, data)
        pl_module.log_now(test)
        _tell("test", test)
        line = data.random_line("test", epoch)
        output = pl_module.as_char_lm().teacher_forced(line).removesuffix("\n")
        shown = [f"sample line:   {line}", f"sample output: {output.replace(chr(10), LINE_END)}"]
        for text in shown:
            log.info("     %s", text)
        if board := writer(trainer):
            board.add_text("sample line", as_code("\n".join(shown)), trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, CharModule)
        speakers = list(pl_module.speakers)
        if not speakers or not self.lines:
            return
        drawn = random.Random(0).choices(speakers, k=self.lines)
        for line in pl_module.as_char_lm().generate(
            speaker=drawn, n=self.lines, temperature=self.temperature, seed=0
        ):
            log.info("GENERATED: %s", line)


@torch.inference_mode()
def _evaluate(
    trainer: pl.Trainer, module: CharModule, data: TranscriptDataModule
) -> dict[str, float]:
    """The scores of the test part by the model as it is, and the seconds that took."""
    started = time.perf_counter()
    module.eval()
    with trainer.precision_plugin.forward_context():
        for number, batch in enumerate(data.test_dataloader()):
            module.test_step(trainer.strategy.batch_to_device(batch), number)
    module.train()
    scores = {name: float(value) for name, value in module.take_scores("test").items()}
    return scores | {"test/seconds": time.perf_counter() - started}


def _tell(part: str, scores: Mapping[str, float | Tensor]) -> None:
    loss, acc, seconds = (float(scores[f"{part}/{key}"]) for key in ("loss", "acc", "seconds"))
    log.info("     >> %-5s loss %.5f  accuracy %.3f  in %.1f s", part, loss, acc, seconds)
