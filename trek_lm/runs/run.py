"""A run and its folder: how it is begun, gone on with, and written down at its end."""

import fcntl
import logging
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_only

from trek_lm import cli
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.errors import UserError
from trek_lm.files import expanded, remove_leftovers, replacing, write_text
from trek_lm.generation.api import CharLM
from trek_lm.models.checkpoint import read_checkpoint
from trek_lm.runs.dashboard import TensorBoard, log_final
from trek_lm.runs.folder import (
    BEST,
    CONFIG,
    LAST,
    METRICS,
    OPEN_KEYS,
    differences,
    objective,
    read_metrics,
    read_settings,
    read_start,
    write_metrics,
    write_settings,
)
from trek_lm.runs.metrics import figures
from trek_lm.terminal import count
from trek_lm.training.budget import max_epochs
from trek_lm.training.trainer import check_reached

log = logging.getLogger(__name__)


class Run:
    """One run's folder: `.hydra/`, TensorBoard's events, and

    - `checkpoints/best.ckpt`, `checkpoints/last.ckpt`
    - `metrics.json`: final numbers, flat
    - `samples.txt`: lines that the best checkpoint generates
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def best(self) -> Path:
        """The checkpoint that is tested and sampled from."""
        return self.folder / BEST

    @property
    def last(self) -> Path:
        """The checkpoint that a resumed run goes on from."""
        return self.folder / LAST

    @property
    def objective(self) -> float:
        """What a sweep minimises, of a finished run: its validation loss, else its train loss."""
        return objective(read_metrics(self.folder))

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Keeps other processes out of the folder meanwhile, but for this run's further ranks.

        Raises UserError where one is at work in it.
        """
        if getattr(rank_zero_only, "rank", 0):
            yield
            return
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f"{self._shown}: a process is at work there; stop it first, or let it end"
                ) from error
            except OSError:  # a file system that knows no locks
                pass
            yield
        finally:
            os.close(folder)

    def begin(self, config: DictConfig) -> None:
        """Takes the folder, and writes the settings into it where no run goes on there.

        One does with `resume=`, and in a sweep that is repeated in its folder. Raises UserError,
        and changes nothing, where the run there is another one, and for names of folders that
        TensorBoard couldn't write.
        """
        for path in map(str, filter(None, (self.folder, config.data.root))):
            if path != path.encode("utf-8", "replace").decode("utf-8"):
                raise UserError(f"{path}: its name is not UTF-8; rename it")
        if config.resume:
            return
        status = read_metrics(self.folder).get("status")
        if self.last.is_file() or status == "finished":
            if HydraConfig.get().mode != RunMode.MULTIRUN:
                raise UserError(
                    f"{self._shown}: a run is there; resume={self._shown} goes on with it"
                )
            before = _comparable(read_settings(self.folder), read_start(self.folder))
            now = _comparable(OmegaConf.to_container(config), Path.cwd())
            if changed := list(differences(before, now, OPEN_KEYS)):
                raise UserError(
                    f"{self._shown}: the run there is another one ({'; '.join(changed)}); "
                    "repeat the sweep's own command, or give another hydra.sweep.dir"
                )
        else:
            write_settings(self.folder, config)
        if status == "failed":
            (self.folder / METRICS).unlink(missing_ok=True)  # it is tried again

    def is_finished(self, config: DictConfig) -> bool:
        """Whether the run has come to its end, with all the epochs or steps that are asked for.

        A sweep's member has too when it ended earlier with the limits and callbacks of now.
        """
        metrics = read_metrics(self.folder)
        if metrics.get("status") != "finished":
            return False
        measured = config.budget is not None and not config.resume
        steps = self.fixed_steps if measured else config.trainer.max_steps
        limits = {"epochs": max_epochs(config), "steps": steps}
        done = {key: metrics.get(key) or 0 for key in limits}
        reached = [key for key, n in limits.items() if isinstance(n, int) and -1 < n <= done[key]]
        if not reached and (config.resume or self._would_end_otherwise(config)):
            return False
        log.info(
            "%s is finished (%s); trainer.max_%s=N trains it longer",
            self._shown,
            count(done["epochs"], "epoch"),
            reached[0] if reached else "epochs",
        )
        return True

    def _would_end_otherwise(self, config: DictConfig) -> bool:
        """Whether other settings decide where the run ends than when it ended."""
        before, now = read_settings(self.folder), OmegaConf.to_container(config)
        others = ("data", "model", "optim", "logger", "checkpoint", "paths", "resume")
        return any(differences(before, now, others))

    @rank_zero_only
    def keep(self, config: DictConfig) -> None:
        """Writes down settings that were decided after the run began."""
        write_text(self.folder / CONFIG, OmegaConf.to_yaml(config))

    @property
    def fixed_steps(self) -> int:
        """The number of steps that a run with a budget was given when it began."""
        return int(read_settings(self.folder)["trainer"]["max_steps"])

    def go_on(
        self,
        config: DictConfig,
        trainer: pl.Trainer,
        data: TranscriptDataModule,
        spec: dict[str, Any],
    ) -> "Reopening":
        """Makes ready to resume: what the run logged after its last checkpoint is void.

        Raises UserError where its checkpoint can't be read, and where the corpus or the number of
        processes isn't what it was. The callback that is given changes the folder.
        """
        checkpoint = read_checkpoint(self.last)
        try:
            facts = checkpoint[type(data).__name__]
            before, split = facts["corpus_sha256"], facts["split_sha256"]
            step, ranks = int(checkpoint["global_step"]), len(checkpoint["ranks"])
            epochs = int(checkpoint["recorder"]["epochs"])
            batches = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
            in_epoch = batches["ready"] > 0  # whose end, with its validation, is still to come
        except (KeyError, TypeError) as error:
            raise UserError(f"{self.last}: no run can go on from this checkpoint") from error
        if before != data.corpus.sha256:
            raise UserError(
                f"resume={self._shown}: data={data.corpus.name} is not the corpus that the run "
                f"began with (fingerprint {data.corpus.sha256[:8]}, not {before[:8]})"
            )
        if split != data.split_sha256:  # whole episodes are drawn by their names
            raise UserError(
                f"resume={self._shown}: other lines are held out than when the run began; were "
                "the corpus's files renamed?"
            )
        for path in filter(Path.is_file, (self.last, self.best)):
            if CharLM.load(path).model.spec != spec:
                raise UserError(f"{path}: not a checkpoint of this run's model")
        if ranks != trainer.world_size:
            raise UserError(
                f"resume={self._shown}: the run has {ranks} processes, not "
                f"{trainer.world_size}: set trainer.devices and trainer.num_nodes as they were"
            )
        check_reached(trainer, epochs, step, in_epoch)
        if isinstance(trainer.logger, TensorBoard):
            trainer.logger.void_after(step)
        if trainer.is_global_zero:
            log.info("resuming %s after %s", self._shown, count(step, "step"))
        return Reopening(self.folder, config)

    def choose_last_unless_validated(self, trainer: pl.Trainer) -> None:
        """Makes what a run ended with its best checkpoint where it never came to a validation."""
        if trainer.is_global_zero and not self.best.is_file():
            with replacing(self.best) as file:
                file.write(self.last.read_bytes())
        trainer.strategy.barrier("best.ckpt")

    def finish(
        self,
        config: DictConfig,
        trainer: pl.Trainer,
        data: TranscriptDataModule,
        callbacks: dict[str, Any],
        made_by: dict[str, Any],
    ) -> None:
        """Writes down how a run ended, and by what it was made, and tells the terminal.

        Raises UserError, all of it written down, when the loss is not a number any more.
        """
        metrics = figures(config, trainer, data, callbacks) | made_by
        lines: list[str] = []
        if trainer.is_global_zero:
            if not metrics["reason"]:
                lines = CharLM.load(self.best).generate(n=10, seed=config.seed)
                write_text(self.folder / "samples.txt", "\n".join(lines) + "\n")
                log_final(config, trainer, metrics, lines)
            # Last of all: who finds it takes the run for finished.
            write_metrics(self.folder, metrics)
        trainer.strategy.barrier("metrics.json")  # every rank reads its objective there
        if metrics["reason"]:
            raise UserError(f"{metrics['reason']}; try a smaller optim.lr")
        if trainer.is_global_zero:
            _tell_score(metrics)
            if HydraConfig.get().mode != RunMode.MULTIRUN:  # a sweep has its leaderboard
                self._tell("\n".join(lines).split("\n")[:3])

    def fail(self, error: Exception) -> str:
        """Writes down that a run came to nothing, and gives why."""
        reason = cli.user_message(error) or cli.first_line(error)
        metrics = read_metrics(self.folder)  # of an end that it had come to before, if any
        write_metrics(self.folder, metrics | {"status": "failed", "reason": reason})
        return reason

    @property
    def _shown(self) -> Path:
        """The folder, short where it is below the current one."""
        here = Path.cwd()
        return self.folder.relative_to(here) if here in self.folder.parents else self.folder

    def _tell(self, lines: list[str]) -> None:
        for line in lines:
            log.info("    %s", line)
        folder = self._shown
        log.info("run folder:  %s", folder)
        log.info("more lines:  python sample.py %s", shlex.quote(f"ckpt={folder}"))
        logdir = folder if folder.is_absolute() else folder.parts[0]
        log.info("dashboard:   tensorboard --logdir %s", shlex.quote(str(logdir)))


class Reopening(Callback):
    """Makes of a folder that of a run under way again, with its settings of now.

    When its first step is about to be made: a mistake that shows before leaves all as it was.
    """

    def __init__(self, folder: Path, config: DictConfig) -> None:
        self.folder = folder
        self.config = config

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            remove_leftovers(self.folder)
            (self.folder / METRICS).unlink(missing_ok=True)  # it is not at its end any more
            write_settings(self.folder, self.config)


def _comparable(config: Any, began_in: str | Path) -> Any:
    """A run's settings, the same whether it was begun or resumed, and from whatever folder."""
    if config["data"]["root"] is not None:
        root = str(Path(began_in, expanded(config["data"]["root"])))
        config["data"] = config["data"] | {"root": root}
    return config | {"resume": None}


def _tell_score(metrics: dict[str, Any]) -> None:
    if metrics["test/acc"] is not None:
        log.info(
            "test accuracy %.4f, %.3f bits per character", metrics["test/acc"], metrics["test/bpc"]
        )
