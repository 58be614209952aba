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
# No choices of a user's: how a corpus is fetched, how checkpoints are written.
UNSHOWN = ("source", "plugins")
# Said by a run's name already, or of no interest in it.
UNNAMED = ("model.hidden", "model.layers", "data.root")
# A number in one run, a word in another: always words, for TensorBoard sorts no mixture.
WORDS = ("model.embedding", "data.root", "data.series", "trainer.precision", "trainer.devices")
FINAL = (
    *("val/loss", "val/acc", "val/bpc", "test/loss", "test/acc", "test/bpc"),
    *("parameters", "chars_per_second", "train_seconds"),
)


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, its events in a folder of the run's that says what the run is.

    That is what TensorBoard calls the run. Without Lightning's hparams.yaml, which would say less
    than `.hydra/config.yaml`.
    """

    def __init__(self, save_dir: str | Path, name: str) -> None:
        # A resumed run keeps its name, though it may be given more settings then.
        there = sorted(Path(save_dir).glob(EVENTS))
        if there:
            name = there[0].parent.relative_to(save_dir).as_posix()
        # `purge_step` marks a start. To TensorBoard only the second mark in a folder is a restart,
        # after which earlier points of that step and later ones are void: so every run has one.
        super().__init__(save_dir, name="", version=name, default_hp_metric=False, purge_step=0)

    def void_after(self, step: int) -> None:
        """Makes it a restart: what was written before of steps after this one does not count."""
        restart_events(self, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        try:
            super().log_metrics(metrics, step)
        except ValueError as error:  # Lightning's, whatever went wrong
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from None
            raise

    @rank_zero_only
    def save(self) -> None:
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        # Not closed: what the test part and the run's end add would go into further files, which
        # TensorBoard reads in the wrong order where they are of the same second.
        self.save()


Lines = Annotated[int, Field(ge=0, le=MOST)]


@settings("callbacks.dashboard.")
class DashboardSettings:
    """What TensorBoard's page shows."""

    splits: list[Literal["train", "val", "test"]]  # whose curves are laid over each other
    lines: Lines  # generated after every epoch
    temperature: Temperature  # of these


class Dashboard(Callback):
    """Lays out TensorBoard's page: curves on one chart, the config, lines as they improve."""

    def __init__(self, **settings: Any) -> None:
        self.settings = DashboardSettings(**settings)

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        board = writer(trainer)
        if board is None or trainer.ckpt_path:  # resumed: they are there
            return
        # The names are regular expressions: without its end, train/loss is train/loss_step too.
        losses, accuracies = (
            [f"{split}/{key}$" for split in self.settings.splits] for key in ("loss", "acc")
        )
        charts = {
            "loss (nats per character)": ["Multiline", losses],
            "accuracy": ["Multiline", accuracies],
            "loss and accuracy": ["Multiline", losses + accuracies],
        }
        board.add_custom_scalars({" and ".join(self.settings.splits): charts})
        assert isinstance(trainer.logger, TensorBoardLogger)
        config = Path(trainer.logger.save_dir) / CONFIG
        if config.exists():
            board.add_text("config", as_code(config.read_text(encoding="utf-8")))

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        board, settings = writer(trainer), self.settings
        if board is None or not settings.lines or not isinstance(module, CharModule):
            return
        # The same speakers and the same noise every epoch: what changes is the model.
        lines = module.as_char_lm().generate(
            n=settings.lines, temperature=settings.temperature, seed=0, max_chars=200
        )
        board.add_text("generated lines", as_code("\n".join(lines)), trainer.global_step)


def writer(trainer: Trainer) -> SummaryWriter | None:
    """TensorBoard's writer on the process that writes, else None."""
    if not trainer.is_global_zero or not isinstance(trainer.logger, TensorBoardLogger):
        return None
    board: SummaryWriter = trainer.logger.experiment
    return board


def as_code(text: str) -> str:
    """Text as a Markdown code block, so that TensorBoard shows it as it is, long lines wrapped."""
    wrapped = (textwrap.wrap(line, 120, subsequent_indent="  ") for line in text.splitlines())
    return "\n".join(f"    {piece}" for pieces in wrapped for piece in pieces or [""])


def run_name(config: DictConfig, choices: Mapping[str, str], overrides: Sequence[str]) -> str:
    """What a run is, such as `lstm-200x3-adagrad`, then what else its command line set."""
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
    """The row of a finished run in the HParams table, and the lines it wrote at the end.

    Without torch's list of the table's columns: TensorBoard would take that of the first run it
    reads. So it takes the settings of all runs, those that differ first.
    """
    board = writer(trainer)
    if board is None:
        return
    step = trainer.global_step + 1  # as the test part's metrics
    board.add_text("final lines", as_code("\n".join(lines)), step)
    # Under names of their own: as val/loss they would be one more point on that curve.
    final = {f"final/{key}": metrics[key] for key in FINAL if metrics[key] is not None}
    choices = HydraConfig.get().runtime.choices
    settings: dict[str, Any] = {key: choices[key] for key in CHOICES} | {"seed": config.seed}
    for group in GROUPS:
        settings |= flat(OmegaConf.to_container(config[group], resolve=True), group)
    _, start, end = hparams(_cells(settings), {})
    assert trainer.logger is not None
    trainer.logger.log_metrics(final, step)
    for summary in (start, end):
        board._get_file_writer().add_summary(summary, step)
    board.close()


def _cells(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as TensorBoard takes them; not Hydra's own, nor what is empty or stands twice."""
    cells: dict[str, Any] = {}
    for key, value in settings.items():
        twice = "optim.optimizer." in key and key.replace("optimizer.", "") in settings
        hidden = any(part.startswith("_") or part in UNSHOWN for part in key.split("."))
        if value is not None and not twice and not hidden:
            number = type(value) in (int, float) and key not in WORDS
            cells[key] = value if number else str(value)
    return cells
