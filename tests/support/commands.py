"""The commands a user types, and the error line they end with."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

PROJECT = Path(__file__).resolve().parents[2]

Cli = Callable[..., subprocess.CompletedProcess[str]]
RunHere = Callable[..., None]

# A run of a second on the small corpus.
TINY = ("model.hidden=12", "trainer.max_epochs=2", "data.batch_size=8")


def composed(*overrides: str) -> DictConfig:
    """The config that `python train.py OVERRIDES` trains with."""
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


def check_error(printed: str, message: str) -> None:
    assert re.match(f"error: .*{message}", printed), printed
    assert len(printed.splitlines()) == 1, printed
