"""TensorBoard's page: what it shows and how it is laid out."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from trek_lm.module import CharModule

# The columns of TensorBoard's HParams table. It takes them from the first run it reads, so
# every run logs the same ones; a key that its config lacks is left empty.
HPARAMS = (
    *("seed", "model.hidden", "model.layers", "model.dropout", "model.embedding", "model.head"),
    *("optim.lr", "data.split", "data.charset", "data.batching", "data.batch_size"),
    "data.batch_by",
    *("trainer.max_epochs", "trainer.precision"),
)
CHOICES = ("model", "optim", "data")
FINAL = ("val/loss", "val/acc", "val/bpc", "test/loss", "test/acc", "test/bpc")


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, its events in the run folder itself.

    Without its hparams.yaml, which would stand beside `.hydra/config.yaml` and say less.
    """

    def __init__(self, save_dir: str | Path) -> None:
        # `purge_step` marks a start. To TensorBoard only the second mark in a folder is a restart,
        # after which earlier points of that step and later ones are void: so every run has one.
        super().__init__(save_dir, name="", version="", default_hp_metric=False, purge_step=0)

    def void_after(self, step: int) -> None:
        """Makes it a restart: what was written before of steps after this one does not count."""
        self._kwargs["purge_step"] = step + 1

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()


class Dashboard(Callback):
    """Lays out TensorBoard's page: curves on one chart, the config, lines as they improve."""

    def __init__(self, parts: Sequence[str], lines: int, temperature: float) -> None:
        """`parts`: whose curves are laid over each other, such as train and val. `lines`: how
        many are generated after every epoch, at `temperature`.
        """
        self.parts = parts
        self.lines = lines
        self.temperature = temperature

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        board = writer(trainer)
        if board is None or trainer.ckpt_path:  # resumed: they are there
            return
        # The names are regular expressions: without its end, train/loss is train/loss_step too.
        losses, accuracies = ([f"{part}/{key}$" for part in self.parts] for key in ("loss", "acc"))
        charts = {
            "loss (nats per character)": ["Multiline", losses],
            "accuracy": ["Multiline", accuracies],
            "loss and accuracy": ["Multiline", losses + accuracies],
        }
        board.add_custom_scalars({" and ".join(self.parts): charts})
        config = Path(board.log_dir) / ".hydra" / "config.yaml"
        if config.exists():
            board.add_text("config", as_code(config.read_text(encoding="utf-8")))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        board = writer(trainer)
        if board is None or not self.lines or not isinstance(pl_module, CharModule):
            return
        # The same speakers and the same noise every epoch: what changes is the model.
        lines = pl_module.as_char_lm().generate(
            n=self.lines, temperature=self.temperature, seed=0, max_chars=200
        )
        board.add_text("generated lines", as_code("\n".join(lines)), trainer.global_step)


def writer(trainer: pl.Trainer) -> SummaryWriter | None:
    """TensorBoard's writer on the process that writes, else None."""
    if not trainer.is_global_zero or not isinstance(trainer.logger, TensorBoardLogger):
        return None
    board: SummaryWriter = trainer.logger.experiment
    return board


def as_code(text: str) -> str:
    """Text as a Markdown code block, so that TensorBoard shows it as it is, long lines wrapped."""
    wrapped = (textwrap.wrap(line, 120, subsequent_indent="  ") for line in text.splitlines())
    return "\n".join(f"    {piece}" for pieces in wrapped for piece in pieces or [""])


def log_final(
    config: DictConfig, trainer: pl.Trainer, metrics: dict[str, Any], lines: list[str]
) -> None:
    """The row of a finished run in the HParams table, and the lines it wrote at the end."""
    board = writer(trainer)
    if board is None:
        return
    step = trainer.global_step + 1  # as the test part's metrics
    board.add_text("final lines", as_code("\n".join(lines)), step)
    choices = HydraConfig.get().runtime.choices
    hparams: dict[str, Any] = {key: str(choices[key]) for key in CHOICES}
    for key in HPARAMS:
        value = OmegaConf.select(config, key)
        hparams[key] = value if isinstance(value, int | float) else str(value or "")
    # Under names of their own: as val/loss they would be one more point on that curve.
    final = {f"final/{key}": math.nan if metrics[key] is None else metrics[key] for key in FINAL}
    assert trainer.logger is not None
    trainer.logger.log_hyperparams(hparams, final, step)
    trainer.logger.save()
