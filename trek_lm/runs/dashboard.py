"""TensorBoard's page: what it shows and how it is laid out."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pydantic import Field
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from trek_lm.generation.request import MOST
from trek_lm.generation.sampling import Temperature
from trek_lm.runs.folder import CONFIG, EVENTS, flat
from trek_lm.settings import settings
from trek_lm.training.lightning_internals import restart_events
from trek_lm.training.module import CharModule

CHOICES = ("optim", "data")  # the cell is a setting, model.cell
GROUPS = ("model", "optim", "data", "trainer")
# Not set by users: how a corpus is fetched, how checkpoints are written.
UNSHOWN = ("source", "plugins")
# Already in a run's name, or not worth showing there.
UNNAMED = ("model.hidden", "model.layers", "data.root")
# Numbers in some runs, text in others: always text, as TensorBoard can't sort a mixture.
WORDS = ("model.embedding", "data.root", "data.series", "trainer.precision", "trainer.devices")
FINAL = (
    *("val/loss", "val/acc", "val/bpc", "test/loss", "test/acc", "test/bpc"),
    *("parameters", "chars_per_second", "train_seconds"),
)


class TensorBoard(TensorBoardLogger):
    """Lightning's logger; the events' folder is named after the run's settings.

    TensorBoard shows that name. Doesn't write Lightning's hparams.yaml, which says less than
    `.hydra/config.yaml`.
    """

    def __init__(self, save_dir: str | Path, name: str) -> None:
        # A resumed run keeps its name, even with other overrides.
        there = sorted(Path(save_dir).glob(EVENTS))
        if there:
            name = there[0].parent.relative_to(save_dir).as_posix()
        # `purge_step` writes a start mark. TensorBoard takes only the second mark in a folder for a
        # restart, and then drops earlier points from that step on: so every run writes one.
        super().__init__(save_dir, name="", version=name, default_hp_metric=False, purge_step=0)

    def void_after(self, step: int) -> None:
        """Marks a restart: TensorBoard drops earlier points of steps after this one."""
        restart_events(self, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        try:
            super().log_metrics(metrics, step)
        except ValueError as error:  # Lightning raises it for any error
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        # Not closed: the test metrics and final lines would go into further files, and TensorBoard
        # reads files of the same second in the wrong order.
        self.save()


Lines = Annotated[int, Field(ge=0, le=MOST)]


@settings("callbacks.dashboard.")
class DashboardSettings:
    """Settings of TensorBoard's page."""

    splits: list[Literal["train", "val", "test"]]  # whose curves share a chart
    lines: Lines  # generated after every epoch
    temperature: Temperature  # of the generated lines


class Dashboard(Callback):
    """Fills TensorBoard's page: shared charts, the config, lines generated after every epoch."""

    def __init__(self, **settings: Any) -> None:
        self.settings = DashboardSettings(**settings)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        writer = tensorboard_writer(trainer)
        if writer is None or trainer.ckpt_path:  # a resumed run has them already
            return
        # Tags are regular expressions: without `$`, train/loss would match train/loss_step.
        losses, accuracies = (
            [f"{split}/{key}$" for split in self.settings.splits] for key in ("loss", "acc")
        )
        charts = {
            "loss (nats per character)": ["Multiline", losses],
            "accuracy": ["Multiline", accuracies],
            "loss and accuracy": ["Multiline", losses + accuracies],
        }
        writer.add_custom_scalars({" and ".join(self.settings.splits): charts})
        assert isinstance(trainer.logger, TensorBoardLogger)
        config = Path(trainer.logger.save_dir) / CONFIG
        if config.exists():
            writer.add_text("config", as_code(config.read_text(encoding="utf-8")))

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        writer, settings = tensorboard_writer(trainer), self.settings
        if writer is None or not settings.lines or not isinstance(module, CharModule):
            return
        # The same speakers and noise every epoch, so that only the model changes.
        lines = module.as_char_lm().generate(
            n=settings.lines, temperature=settings.temperature, seed=0, max_chars=200
        )
        writer.add_text("generated lines", as_code("\n".join(lines)), trainer.global_step)


def tensorboard_writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer on the first rank, else None."""
    if not trainer.is_global_zero or not isinstance(trainer.logger, TensorBoardLogger):
        return None
    writer: SummaryWriter = trainer.logger.experiment
    return writer


def as_code(text: str) -> str:
    """Text as a Markdown code block with long lines wrapped, which TensorBoard shows verbatim."""
    wrapped = (textwrap.wrap(line, 120, subsequent_indent="  ") for line in text.splitlines())
    return "\n".join(f"    {piece}" for pieces in wrapped for piece in pieces or [""])


def run_name(config: DictConfig, choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """A run's name, such as `lstm-200x3-adagrad`, followed by its other overrides."""
    cell, hidden, layers = (config.model[key] for key in ("cell", "hidden", "layers"))
    parts = [f"{cell}-{hidden}x{layers}", choices["optim"]]
    if choices["data"] != "bundled":
        parts.append(choices["data"])
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        group, _, rest = key.partition(".")
        if key not in UNNAMED and (key == "seed" or (rest and group in GROUPS)):
            parts.append(f"{key.rpartition('.')[2]}={value}")
    return re.sub(r"[^\w.=,+-]+", "_", "-".join(parts))[:120]


def log_final(
    config: DictConfig, trainer: Trainer, metrics: dict[str, Any], lines: list[str]
) -> None:
    """Logs a finished run's row of the HParams table, and its final lines.

    Leaves out torch's list of columns: TensorBoard would use that of the first run it reads.
    Without one it shows the settings of all runs, those that differ first.
    """
    writer = tensorboard_writer(trainer)
    if writer is None:
        return
    step = trainer.global_step + 1  # as for the test metrics
    writer.add_text("final lines", as_code("\n".join(lines)), step)
    # Under other names: as val/loss it would be one more point on that curve.
    final = {f"final/{key}": metrics[key] for key in FINAL if metrics[key] is not None}
    choices = HydraConfig.get().runtime.choices
    settings: dict[str, Any] = {key: choices[key] for key in CHOICES} | {"seed": config.seed}
    for group in GROUPS:
        settings |= flat(OmegaConf.to_container(config[group], resolve=True), group)
    _, start, end = hparams(_cells(settings), {})
    assert trainer.logger is not None
    trainer.logger.log_metrics(final, step)
    for summary in (start, end):
        writer._get_file_writer().add_summary(summary, step)
    writer.close()


def _cells(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as TensorBoard accepts them, without Hydra's keys, empty values and duplicates."""
    cells: dict[str, Any] = {}
    for key, value in settings.items():
        twice = "optim.optimizer." in key and key.replace("optimizer.", "") in settings
        hidden = any(part.startswith("_") or part in UNSHOWN for part in key.split("."))
        if value is not None and not twice and not hidden:
            number = type(value) in (int, float) and key not in WORDS
            cells[key] = value if number else str(value)
    return cells
