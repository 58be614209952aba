from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.support.corpora import data_from
from trek_lm.errors import UserError
from trek_lm.training.trainer import check_limits, make_trainer

PLAIN = {"_target_": "pytorch_lightning.Trainer", "accelerator": "cpu", "precision": "auto"}


def made(**given: Any) -> Any:
    trainer = PLAIN | {"max_epochs": 3, "max_steps": -1} | given
    return make_trainer(OmegaConf.create({"trainer": trainer, "budget": None}))


@pytest.mark.parametrize(
    "given",
    [
        {"max_epochs": 1},
        {"max_epochs": -1, "max_steps": 7},
        {"limit_train_batches": 3},
        {"limit_train_batches": 0.5},
        {"limit_train_batches": None},
        {"deterministic": "warn"},
        {"val_check_interval": "00:00:10:00"},
        {"devices": "1"},
        {"max_time": {"hours": 1}},
        {"accumulate_grad_batches": 2, "gradient_clip_val": None, "log_every_n_steps": 0},
    ],
    ids=str,
)
def test_values_that_lightning_accepts(given: dict[str, Any]) -> None:
    trainer = made(**given)
    assert trainer.max_epochs == given.get("max_epochs", 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_epochs": 0}, "max_epochs=0: must be -1 or greater than or equal to 1"),
        ({"max_epochs": True}, "max_epochs=True: must be -1 or a valid integer"),
        ({"max_steps": None}, "max_steps=None: must be -1 or a valid integer"),
        ({"max_steps": 1.5}, r"max_steps=1\.5: must be -1 or a valid integer"),
        ({"max_steps": -2}, "max_steps=-2: must be -1 or greater than or equal to 1"),
        ({"max_steps": 0}, "max_steps=0: must be -1 or greater than or equal to 1"),
        ({"max_epochs": -1}, "max_epochs=-1: a learning-rate schedule needs an end"),
        ({"max_epochs": None}, "max_epochs=None: a learning-rate schedule needs an end"),
        ({"detect_anomaly": "yes"}, "detect_anomaly=yes: must be a valid boolean"),
        (
            {"accumulate_grad_batches": 0},
            "accumulate_grad_batches=0: must be greater than or equal to 1",
        ),
        ({"limit_train_batches": 0.0}, r"limit_train_batches=0\.0: must be .*greater than 0"),
        ({"gradient_clip_val": float("nan")}, "gradient_clip_val=nan: must be a finite number"),
        ({"gradient_clip_val": 0}, "gradient_clip_val=0: must be greater than 0"),
        ({"log_every_n_steps": "x"}, "log_every_n_steps=x: must be a valid integer"),
        ({"benchmark": "x"}, "benchmark=x: must be a valid boolean"),
    ],
    ids=str,
)
def test_invalid_values_are_refused_early(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"trainer\.{message}"):
        made(**given)


@pytest.mark.parametrize("part", ["val", "test"])
def test_limit_below_one_batch(part: str, corpus: Path) -> None:
    data = data_from(corpus, eval_batch_size=4)  # 12 lines per split
    for limit in (1.0, 0.5, 0, 2):
        check_limits(made(**{f"limit_{part}_batches": limit}), data)
    with pytest.raises(UserError, match=rf"limit_{part}_batches=0\.1: less than one of 3 batches"):
        check_limits(made(**{f"limit_{part}_batches": 0.1}), data)


def test_overfit_batches_below_one_batch(corpus: Path) -> None:
    data = data_from(corpus, eval_batch_size=4)
    with pytest.raises(UserError, match=r"trainer\.overfit_batches=0\.1: less than one of 3"):
        check_limits(made(overfit_batches=0.1), data)
