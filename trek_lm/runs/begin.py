"""Checks before a run: is its folder free, is its config unchanged, has it finished already?"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trek_lm.errors import UserError
from trek_lm.files import expanded
from trek_lm.runs.folder import (
    LAST,
    METRICS,
    OPEN_KEYS,
    differences,
    read_metrics,
    read_settings,
    read_start,
    shown,
    write_settings,
)
from trek_lm.terminal import count
from trek_lm.training.lightning_internals import rank
from trek_lm.training.trainer import max_epochs

log = logging.getLogger(__name__)

# Config groups that don't decide when a run ends.
NOT_ITS_END = ("data", "model", "optim", "logger", "checkpoint", "paths", "resume")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a run's folder against other processes, except the run's further ranks.

    Raises UserError if another process trains in it.
    """
    try:
        with nullcontext() if rank() else FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise UserError(
            f"{shown(folder)}: another process trains there; stop it or wait for it"
        ) from error


def begin(folder: Path, config: DictConfig) -> None:
    """Writes the config into the folder, unless a run is resumed there.

    A run is resumed with `resume=`, or by repeating a sweep in its folder. Raises UserError, and
    changes nothing, if the folder holds a different run, or for a folder name that TensorBoard
    can't write.
    """
    for path in map(str, filter(None, (folder, config.data.root))):
        if path != path.encode("utf-8", "replace").decode("utf-8"):
            raise UserError(f"{path}: its name is not UTF-8; rename it")
    if config.resume:
        return
    status = read_metrics(folder).get("status")
    if (folder / LAST).is_file() or status == "finished":
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            where = shown(folder)
            raise UserError(f"{where}: already holds a run; resume={where} continues it")
        before = _comparable(read_settings(folder), read_start(folder))
        now = _comparable(OmegaConf.to_container(config), Path.cwd())
        if changed := list(differences(before, now, OPEN_KEYS)):
            raise UserError(
                f"{shown(folder)}: holds a different run ({'; '.join(changed)}); "
                "repeat the sweep's own command, or set another hydra.sweep.dir"
            )
    else:
        write_settings(folder, config)
    if status == "failed":
        (folder / METRICS).unlink(missing_ok=True)  # it is retried


def is_finished(folder: Path, config: DictConfig) -> bool:
    """Whether the run has finished the requested number of epochs or steps.

    A sweep's member counts as finished if it ended earlier, with the same limits and callbacks.
    """
    metrics = read_metrics(folder)
    if metrics.get("status") != "finished":
        return False
    steps = config.trainer.max_steps if config.budget is None else metrics.get("max_steps")
    limits = {"epochs": max_epochs(config), "steps": steps}
    done = {key: metrics.get(key) or 0 for key in limits}
    reached = [key for key, n in limits.items() if isinstance(n, int) and -1 < n <= done[key]]
    if not reached and (config.resume or _limits_changed(folder, config)):
        return False
    log.info(
        "%s is finished (%s); trainer.max_%s=N trains it longer",
        shown(folder),
        count(done["epochs"], "epoch"),
        reached[0] if reached else "epochs",
    )
    return True


def _limits_changed(folder: Path, config: DictConfig) -> bool:
    """Whether settings that decide when a run ends differ from those of the finished run."""
    before, now = read_settings(folder), OmegaConf.to_container(config)
    return any(differences(before, now, NOT_ITS_END))


def _comparable(config: Any, began_in: str | Path) -> Any:
    """A run's config without `resume`, and with the absolute path of `data.root`."""
    if config["data"]["root"] is not None:
        root = str(Path(began_in, expanded(config["data"]["root"])))
        config["data"] = config["data"] | {"root": root}
    return config | {"resume": None}
