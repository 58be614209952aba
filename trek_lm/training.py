"""One run, from its config to its figures: builds, fits, tests."""

import math

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from trek_lm.dashboard import run_name
from trek_lm.machine import choose_precision, quiet, seed_everything
from trek_lm.module import CharModule
from trek_lm.runs import Run


def train(config: DictConfig) -> float:
    """Trains in the run's own folder; gives what a sweep minimises: validation, else train loss.

    A member of a sweep that fails writes down why and gives infinity, so that the others run.
    """
    quiet()
    run = Run(HydraConfig.get().runtime.output_dir)
    goes_on = run.begin(config)
    if goes_on and run.is_finished(config.trainer):
        return run.objective
    try:
        _train(config, run, goes_on)
    except Exception as error:
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            raise
        run.fail(error)
        return math.inf
    return run.objective


def _train(config: DictConfig, run: Run, goes_on: bool) -> None:
    seed_everything(config.seed)
    data = instantiate(config.data)
    data.prepare_data()
    data.setup()
    model = instantiate(config.model, symbols=len(data.charset))
    module = CharModule(
        model,
        instantiate(config.optim.optimizer),
        instantiate(config.optim.schedule),
        charset=data.charset,
        speakers=data.speakers,
    )
    callbacks = instantiate(config.callbacks)
    hydra = HydraConfig.get()
    name = run_name(config, hydra.runtime.choices, hydra.overrides.task)
    trainer = instantiate(
        config.trainer,
        precision=choose_precision(config.trainer.precision, config.trainer.accelerator),
        logger=instantiate(config.logger, save_dir=run.folder, name=name),
        callbacks=list(callbacks.values()),
    )
    module.check(trainer)
    if goes_on:
        run.go_on(config, trainer, data)
    trainer.fit(module, data, ckpt_path=run.last if goes_on else None, weights_only=True)
    if data.has("test"):
        trainer.test(module, data, ckpt_path=run.best, weights_only=True, verbose=False)
    run.finish(config, trainer, data, callbacks)
