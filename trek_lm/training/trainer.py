"""Lightning's Trainer from `conf/trainer`, with its values checked before a run starts."""

from dataclasses import fields
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pydantic import Field
from pytorch_lightning.callbacks import Callback

from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.errors import UserError
from trek_lm.settings import settings
from trek_lm.terminal import count
from trek_lm.training.hardware import choose_precision

C = TypeVar("C", bound=Callback)

Positive = Annotated[int, Field(ge=1)]
End = Literal[-1] | Positive  # -1: no limit
Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Limit = Positive | Annotated[float, Field(gt=0, le=1)]  # batches, or a fraction of them
Limit0 = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)]


@settings("trainer.")
class TrainerValues:
    """Those arguments of Lightning's Trainer whose bounds it doesn't check itself.

    Out of bounds, they would make Lightning raise in the middle of a run, train nothing, or be
    accepted silently.
    """

    max_epochs: End | None = None
    max_steps: End = -1
    min_epochs: Positive | None = None
    min_steps: Positive | None = None
    num_sanity_val_steps: Annotated[int, Field(ge=-1)] | None = None
    log_every_n_steps: Annotated[int, Field(ge=0)] | None = None
    accumulate_grad_batches: Positive = 1
    check_val_every_n_epoch: Positive | None = None
    gradient_clip_val: Above0 | None = None
    limit_train_batches: Limit | None = None
    limit_val_batches: Limit0 | None = None
    limit_test_batches: Limit0 | None = None
    val_check_interval: Limit | str | timedelta | dict[str, Any] | None = None
    detect_anomaly: bool = False
    benchmark: bool | None = None
    deterministic: bool | Literal["warn"] | None = None


def make_trainer(config: DictConfig, **parts: object) -> pl.Trainer:
    """The trainer of a run's config; `parts` are further arguments, or replace some.

    Raises UserError for a value at which Lightning would fail, perhaps in the middle of a run.
    """
    _check(config)
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    own = {"precision": precision, "max_epochs": max_epochs(config)}
    # Plain lists and dicts: Lightning's max_time may refuse OmegaConf's.
    trainer: pl.Trainer = instantiate(config.trainer, _convert_="all", **(own | parts))
    return trainer


def max_epochs(config: DictConfig) -> Any:
    """The run's limit in epochs; -1: none.

    A run limited by steps or by a budget ignores the corpus's default number of epochs (to which
    `trainer.max_epochs` refers), but not a number that was set.
    """
    ends_by_steps = config.budget is not None or config.trainer.max_steps != -1
    if ends_by_steps and OmegaConf.is_interpolation(config.trainer, "max_epochs"):
        return -1
    return config.trainer.max_epochs


def data_of(trainer: pl.Trainer) -> TranscriptDataModule:
    """The trainer's data module."""
    data: TranscriptDataModule = trainer.datamodule  # type: ignore[attr-defined]
    return data


def chars_per_batch(trainer: pl.Trainer) -> float:
    """Mean characters of a training batch, over all batches: an epoch may be limited to some."""
    batches = len(trainer.train_dataloader)  # type: ignore[arg-type]
    return data_of(trainer).characters["train"] / batches


def callbacks_of(trainer: pl.Trainer, kind: type[C]) -> list[C]:
    """The trainer's callbacks of class `kind`."""
    return [callback for callback in trainer.callbacks if isinstance(callback, kind)]  # type: ignore[attr-defined]


def check_limits(trainer: pl.Trainer, data: TranscriptDataModule) -> None:
    """Raises UserError, before hours of training, for a fraction of less than one batch."""
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        limit = getattr(trainer, f"limit_{split}_batches")
        # overfit_batches replaces the limits of training and validation.
        overfits = split == "val" and trainer.overfit_batches > 0  # type: ignore[attr-defined]
        key = "overfit_batches" if overfits else f"limit_{split}_batches"
        if isinstance(limit, float) and len(loader) and limit > 0 == int(limit * len(loader)):
            raise UserError(
                f"trainer.{key}={limit:g}: less than one of {len(loader):,} batches"
                "; set a whole number of batches"
            )


def check_reached(trainer: pl.Trainer, epochs: int, steps: int, in_epoch: bool) -> None:
    """Raises UserError for a limit below what the resumed run has done.

    `in_epoch`: the run stopped within an epoch, so the limit must be above what it has done.
    """
    for done, limit, unit in (
        (epochs, trainer.max_epochs, "epoch"),
        (steps, trainer.max_steps, "step"),
    ):
        least = done + in_epoch
        if limit is not None and -1 < limit < least:
            raise UserError(
                f"trainer.max_{unit}s={limit}: the run has done {count(done, unit)}"
                f"{' and stopped within an epoch' * in_epoch}; set {least} or more"
            )


def _check(config: DictConfig) -> None:
    given = OmegaConf.to_container(config.trainer, resolve=True)
    assert isinstance(given, dict)
    names = {field.name for field in fields(TrainerValues)}
    TrainerValues(**{str(key): value for key, value in given.items() if key in names})
    if config.budget is None and given["max_steps"] == -1 and given["max_epochs"] in (None, -1):
        raise UserError(
            f"trainer.max_epochs={given['max_epochs']}: a learning-rate schedule needs an end"
            "; set trainer.max_epochs, trainer.max_steps or budget"
        )
