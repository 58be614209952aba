"""One run, from its config to its figures: builds, fits, tests."""

import logging
import math
from copy import copy
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from trek_lm import cli
from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.errors import DivergedError, UserError
from trek_lm.runs.dashboard import run_name
from trek_lm.runs.provenance import provenance
from trek_lm.runs.run import Run
from trek_lm.signals import stop_signals
from trek_lm.terminal import PrintableFormatter, count
from trek_lm.training import distributed
from trek_lm.training.budget import Stopwatch, seconds_of
from trek_lm.training.checkpointing import BestCheckpoint, LastCheckpoint
from trek_lm.training.hardware import choose_engine, quiet, seed_everything
from trek_lm.training.module import CharModule
from trek_lm.training.progress import Recorder
from trek_lm.training.trainer import bare_trainer, check_limits, make_trainer

log = logging.getLogger(__name__)


@stop_signals.heeded()
def train(config: DictConfig) -> float:
    """Trains in the run's own folder; gives what a sweep minimises: validation, else train loss.

    A member of a sweep that fails writes down why and gives infinity, so that the others run.
    """
    quiet()
    hydra = HydraConfig.get()
    if "joblib" in str(hydra.launcher):
        _number_lines(hydra.job.num)
    run = Run(hydra.runtime.output_dir)
    with run.taken():
        return _train(config, run)


def _train(config: DictConfig, run: Run) -> float:
    run.begin(config)
    if run.is_finished(config):
        return run.objective
    try:
        if config.budget is not None:
            seconds_of(config.budget)  # refused here, before a corpus is fetched and read
        if processes := _processes(config):
            instantiate(config.data).prepare_data()  # once, not in each of them
            distributed.launch(f"{__name__}:{fit.__name__}", config, processes)
        else:
            fit(config)
    except Exception as error:
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            if isinstance(error, DivergedError):
                run.fail(error)
            raise
        reason = run.fail(error)
        log.error("failed: %s", reason, exc_info=None if cli.user_message(error) else error)
        return math.inf
    return run.objective


@stop_signals.heeded()
def fit(config: DictConfig) -> None:
    """Builds, fits and tests, in this process alone or as one rank of several."""
    quiet()
    if getattr(rank_zero_only, "rank", 0):
        logging.disable()  # one process speaks for all
    seed_everything(config.seed)
    hydra = HydraConfig.get()
    run = Run(hydra.runtime.output_dir)
    goes_on = run.last.is_file()
    made_by = provenance()
    data = instantiate(config.data)
    data.prepare_data()
    data.setup()
    bare = bare_trainer(config)
    model, device = config.model, bare.strategy.root_device
    engine = choose_engine(model.engine, model.cell, device, bare.precision)
    if config.budget is not None and not config.resume:
        steps = run.fixed_steps if goes_on else _steps_within(config, data, engine)
        config.trainer.max_steps = steps
        run.keep(config)
        seed_everything(config.seed)  # from here on as if the steps had been given
    callbacks = _callbacks(config, run)
    name = run_name(config, hydra.runtime.choices, hydra.overrides.task)
    trainer = make_trainer(
        config,
        logger=instantiate(config.logger, save_dir=run.folder, name=name),
        callbacks=list(callbacks.values()),
    )
    module = _module(config, data, engine)
    if trainer.global_rank:
        torch.manual_seed(config.seed + trainer.global_rank)  # dropout of its own
    module.check()
    check_limits(trainer, data)
    if goes_on:
        reopening = run.go_on(config, trainer, data, module.model.spec)
        trainer.callbacks.append(reopening)  # type: ignore[attr-defined]
    trainer.fit(module, data, ckpt_path=run.last if goes_on else None, weights_only=True)
    if trainer.global_step == 0:
        raise UserError("no step was made: see the limits in trainer")
    run.choose_last_unless_validated(trainer)
    if data.has("test"):
        trainer.test(module, data, ckpt_path=run.best, weights_only=True, verbose=False)
    run.finish(config, trainer, data, callbacks, made_by)


def _callbacks(config: DictConfig, run: Run) -> dict[str, Callback]:
    """Those of the config that aren't null, and what every run needs, by name.

    Raises UserError for what is no callback.
    """
    folder = str(run.best.parent)
    made: dict[str, Any] = {"progress": None, "recorder": Recorder()}  # in this order
    made |= instantiate(config.callbacks, _convert_="all")
    made["best"] = BestCheckpoint(folder)
    made["last"] = LastCheckpoint(folder, config.checkpoint.every_minutes)
    for name, callback in made.items():
        if not isinstance(callback, Callback | None):
            raise UserError(f"callbacks.{name}={callback}: no callback of Lightning's")
    return {name: callback for name, callback in made.items() if callback is not None}


def _module(config: DictConfig, data: TranscriptDataModule, engine: str) -> CharModule:
    return CharModule(
        instantiate(config.model, symbols=len(data.charset), engine=engine),
        instantiate(config.optim.optimizer),
        instantiate(config.optim.schedule),
        instantiate(config.optim.get("tables")),
        charset=data.charset,
        speakers=data.speakers,
    )


def _steps_within(config: DictConfig, data: TranscriptDataModule, engine: str) -> int:
    """How many steps of this run `budget` leaves time for, by a trial that is thrown away.

    By the second of two trials: in the first, oneDNN makes what it needs for each length of lines.
    """
    seconds = seconds_of(config.budget)
    endless = {"max_steps": 2**31, "max_epochs": -1, "limit_val_batches": 0}
    for _ in range(2):
        watch = Stopwatch()
        trial = bare_trainer(config, callbacks=[watch], **endless)
        module = _module(config, data, engine)
        module.check()
        trial.fit(module, copy(data))
    steps = watch.steps_within(seconds, trial)
    log.info("budget: %s of training is %s", config.budget, count(steps, "step"))
    return steps


def _processes(config: DictConfig) -> int:
    """How many processes must be started here for a run; 0: this one is enough, or one of them.

    Raises UserError where a run over several machines wasn't started on them.
    """
    trainer = bare_trainer(config)
    if trainer.world_size == 1:
        return 0
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy):
        raise UserError(f"trainer.devices={config.trainer.devices}: choose trainer=ddp for several")
    assert strategy.cluster_environment is not None
    if strategy.cluster_environment.creates_processes_externally:
        hydra = HydraConfig.get()
        named = any("hydra.run.dir=" in given for given in hydra.overrides.hydra)
        if hydra.mode != RunMode.MULTIRUN and not named:
            raise UserError("under torchrun or srun give hydra.run.dir=FOLDER, one for all ranks")
        return 0
    if trainer.num_nodes > 1:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: start the same command on each of them, "
            "with torchrun or srun"
        )
    return trainer.num_devices


def _number_lines(member: int) -> None:
    """Says on the terminal, which members of a sweep share, whose a line is."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler:
            handler.setFormatter(PrintableFormatter(f"#{member}: %(message)s"))
