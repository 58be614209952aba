"""One run, from its config to its figures: builds, fits, tests."""

import logging
import math

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities import rank_zero_only

from trek_lm import ranks
from trek_lm.dashboard import run_name
from trek_lm.errors import UserError
from trek_lm.machine import choose_engine, choose_precision, quiet, seed_everything
from trek_lm.module import CharModule
from trek_lm.runs import Run


def train(config: DictConfig) -> float:
    """Trains in the run's own folder; gives what a sweep minimises: validation, else train loss.

    A member of a sweep that fails writes down why and gives infinity, so that the others run.
    """
    quiet()
    hydra = HydraConfig.get()
    if "joblib" in hydra.launcher._target_:
        _number_lines(hydra.job.num)
    run = Run(hydra.runtime.output_dir)
    run.begin(config)
    if run.is_finished(config.trainer):
        return run.objective
    try:
        if processes := _processes(config):
            instantiate(config.data).prepare_data()  # once, not in each of them
            ranks.launch(f"{__name__}:{fit.__name__}", config, processes)
        else:
            fit(config)
    except Exception as error:
        if hydra.mode != RunMode.MULTIRUN:
            raise
        run.fail(error)
        return math.inf
    return run.objective


def fit(config: DictConfig) -> None:
    """Builds, fits and tests, in this process alone or as one rank of several."""
    quiet()
    if getattr(rank_zero_only, "rank", 0):
        logging.disable()  # one process speaks for all
    seed_everything(config.seed)
    run = Run(HydraConfig.get().runtime.output_dir)
    data = instantiate(config.data)
    data.prepare_data()
    data.setup()
    callbacks = instantiate(config.callbacks)
    hydra = HydraConfig.get()
    name = run_name(config, hydra.runtime.choices, hydra.overrides.task)
    trainer = _trainer(
        config,
        logger=instantiate(config.logger, save_dir=run.folder, name=name),
        callbacks=list(callbacks.values()),
    )
    engine = choose_engine(config.model.engine, trainer.strategy.root_device, trainer.precision)
    module = CharModule(
        instantiate(config.model, symbols=len(data.charset), engine=engine),
        instantiate(config.optim.optimizer),
        instantiate(config.optim.schedule),
        charset=data.charset,
        speakers=data.speakers,
    )
    if trainer.global_rank:
        torch.manual_seed(config.seed + trainer.global_rank)  # dropout of its own
    module.check(trainer)
    goes_on = run.last.is_file()
    if goes_on:
        run.go_on(config, trainer, data)
    trainer.fit(module, data, ckpt_path=run.last if goes_on else None, weights_only=True)
    if data.has("test"):
        trainer.test(module, data, ckpt_path=run.best, weights_only=True, verbose=False)
    run.finish(config, trainer, data, callbacks)


def _trainer(config: DictConfig, **parts: object) -> pl.Trainer:
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    trainer: pl.Trainer = instantiate(config.trainer, precision=precision, **parts)
    return trainer


def _processes(config: DictConfig) -> int:
    """How many processes must be started here for a run; 0: this one is enough, or one of them.

    Raises UserError where a run over several machines wasn't started on them.
    """
    trainer = _trainer(config, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    if trainer.world_size == 1:
        return 0
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy):
        raise UserError(f"trainer.devices={config.trainer.devices}: choose trainer=ddp for several")
    assert strategy.cluster_environment is not None
    if strategy.cluster_environment.creates_processes_externally:
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
            handler.setFormatter(logging.Formatter(f"#{member}: %(message)s"))
