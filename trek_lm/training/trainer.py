"""Lightning's Trainer from `conf/trainer`, its values looked at before a run begins."""

import math
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.errors import UserError, check_number, check_whole
from trek_lm.terminal import count
from trek_lm.training.budget import max_epochs
from trek_lm.training.hardware import choose_precision

KINDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    NoneType: "null",
}
# What Lightning's annotations don't say: below these it fails in the midst of a run.
LEAST = {
    "max_epochs": -1,
    "max_steps": -1,
    "num_sanity_val_steps": -1,
    "log_every_n_steps": 0,
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
}
ABOVE_ZERO = {
    "gradient_clip_val": "a number above 0, or null for no clipping",
    "limit_train_batches": "a number above 0",
    "val_check_interval": "a number above 0",
}


def make_trainer(config: DictConfig, **parts: object) -> pl.Trainer:
    """The trainer of a run's config, with these parts of it.

    Raises UserError for a value at which Lightning would fail, perhaps in the midst of a run.
    """
    _check(config)
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    own = {"precision": precision, "max_epochs": max_epochs(config)}
    # Plain lists and dicts: what takes a dict, max_time, may not take OmegaConf's.
    trainer: pl.Trainer = instantiate(config.trainer, _convert_="all", **(own | parts))
    return trainer


def bare_trainer(config: DictConfig, **parts: object) -> pl.Trainer:
    """A trainer that leaves nothing behind."""
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return make_trainer(config, **silent, **parts)


def check_limits(trainer: pl.Trainer, data: TranscriptDataModule) -> None:
    """Raises UserError, before hours of training, for a share of a part that is no batch of it."""
    for part, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        limit = getattr(trainer, f"limit_{part}_batches")
        # overfit_batches stands for the limits of training and validation.
        overfits = part == "val" and trainer.overfit_batches > 0  # type: ignore[attr-defined]
        key = "overfit_batches" if overfits else f"limit_{part}_batches"
        if isinstance(limit, float) and len(loader) and limit > 0 == int(limit * len(loader)):
            raise UserError(
                f"trainer.{key}={limit:g}: not one of {len(loader):,} batches"
                "; give a whole number of them"
            )


def check_reached(trainer: pl.Trainer, epochs: int, steps: int, in_epoch: bool) -> None:
    """Raises UserError for a limit below what a run has done that is to go on.

    Of one `in_epoch`, whose end and validation are still to come, at what it has done too.
    """
    for done, limit, unit in (
        (epochs, trainer.max_epochs, "epoch"),
        (steps, trainer.max_steps, "step"),
    ):
        least = done + in_epoch
        if limit is not None and -1 < limit < least:
            raise UserError(
                f"trainer.max_{unit}s={limit}: the run has done {count(done, unit)}"
                f"{' and is within an epoch' * in_epoch}, give {least} or more"
            )


def _check(config: DictConfig) -> None:
    given = config.trainer
    for name, hint in get_type_hints(pl.Trainer.__init__).items():
        if name in given and name != "precision":
            _check_kind(f"trainer.{name}", given[name], hint)
    for name, least in LEAST.items():
        if given.get(name) is not None:
            check_whole(f"trainer.{name}", given[name], least)
    for name, what in ABOVE_ZERO.items():
        if isinstance(given.get(name), int | float):
            check_number(f"trainer.{name}", given[name], 0, math.inf, what)
    for name in ("max_steps", "max_epochs"):
        if given[name] == 0:
            raise UserError(f"trainer.{name}=0: nothing would be trained")
    if config.budget is None and given.max_steps == -1 and given.max_epochs in (None, -1):
        raise UserError(
            f"trainer.max_epochs={given.max_epochs}: a learning-rate schedule needs an end"
        )


def _check_kind(key: str, value: Any, hint: Any) -> None:
    """Raises UserError for a number, a text, a truth value or nothing where none is taken."""
    kinds = get_args(hint) if get_origin(hint) is Union else (hint,)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    taken = type(value) in kinds or (type(value) is int and float in kinds) or value in words
    if not taken and type(value) in KINDS:
        wanted = " or ".join(KINDS[kind] for kind in kinds if kind in KINDS)
        raise UserError(f"{key}={value}: must be {wanted}")
