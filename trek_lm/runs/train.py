"""One run from top to bottom: trainer, data, model, fit, test, results."""

import logging
import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback, LambdaCallback

from trek_lm import cli
from trek_lm.errors import DivergedError, UserError
from trek_lm.runs.begin import begin, is_finished, locked
from trek_lm.runs.dashboard import run_name
from trek_lm.runs.finish import choose_last_unless_validated, fail, finish
from trek_lm.runs.folder import BEST, LAST, objective, read_metrics, shown
from trek_lm.runs.provenance import provenance
from trek_lm.runs.resume import check_resumable, reopen
from trek_lm.signals import Stopped, stop_signals
from trek_lm.terminal import PrintableFormatter
from trek_lm.training.budget import Budget
from trek_lm.training.checkpointing import BestCheckpoint, LastCheckpoint
from trek_lm.training.distributed import launch, processes_to_start
from trek_lm.training.hardware import choose_engine, quiet, seed_everything
from trek_lm.training.lightning_internals import rank
from trek_lm.training.module import CharModule
from trek_lm.training.recorder import Recorder
from trek_lm.training.trainer import check_limits, make_trainer

log = logging.getLogger(__name__)


@stop_signals.handled()
def fit(config: DictConfig) -> None:
    """Builds, fits and tests, in this process or in the several that it starts."""
    quiet()
    if rank():
        logging.disable()  # only the first rank logs
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    resumes = (folder / LAST).is_file()
    made_by = provenance()
    seed_everything(config.seed)

    name = run_name(config, hydra.runtime.choices, hydra.overrides.task)
    trainer = make_trainer(
        config,
        logger=instantiate(config.logger, save_dir=folder, name=name),
        callbacks=make_callbacks(config, folder, resumes=resumes),
    )
    data = instantiate(config.data)
    data.prepare_data()
    named = any("hydra.run.dir=" in given for given in hydra.overrides.hydra)
    shared = named or hydra.mode == RunMode.MULTIRUN
    if processes := processes_to_start(trainer, share_folder=shared):
        launch(f"{__name__}:{fit.__name__}", config, processes)
        return
    data.setup()

    engine = choose_engine(
        config.model.engine, config.model.cell, trainer.strategy.root_device, trainer.precision
    )
    module = CharModule(
        instantiate(config.model, vocab_size=len(data.charset), engine=engine),
        instantiate(config.optim.optimizer),
        instantiate(config.optim.schedule),
        instantiate(config.optim.get("tables")),
        charset=data.charset,
        speakers=data.speakers,
    )
    if trainer.global_rank:
        torch.manual_seed(config.seed + trainer.global_rank)  # each rank has its own dropout

    with _resume_hint(folder):
        module.check(data.settings.batching)
        check_limits(trainer, data)
        if resumes:
            check_resumable(folder, trainer, data, module)
        last = folder / LAST if resumes else None
        trainer.fit(module, data, ckpt_path=last, weights_only=True)
        if trainer.global_step == 0:
            raise UserError("trainer: no training step was made; check its limits")
        choose_last_unless_validated(folder, trainer)
        if data.has("test"):
            best = folder / BEST
            trainer.test(module, data, ckpt_path=best, weights_only=True, verbose=False)
        finish(folder, config, trainer, made_by)


def make_callbacks(config: DictConfig, folder: Path, *, resumes: bool) -> list[Callback]:
    """The callbacks of `conf/callbacks` that aren't null, and those that every run needs.

    Raises UserError for an entry that isn't a callback.
    """
    made = instantiate(config.callbacks or {}, _convert_="all")
    chosen = {name: callback for name, callback in made.items() if callback is not None}
    for name, callback in chosen.items():
        if not isinstance(callback, Callback):
            raise UserError(f"callbacks.{name}={callback}: not a Lightning callback")
    checkpoints = str((folder / BEST).parent)
    needed: list[Callback] = [
        Recorder(),
        BestCheckpoint(checkpoints),
        LastCheckpoint(checkpoints, every_minutes=config.checkpoint.every_minutes),
    ]
    if config.budget is not None:
        needed.append(Budget(config.budget, partial(make_trainer, config), resumes=resumes))
    if resumes:
        at_start = LambdaCallback(on_train_start=lambda trainer, _: reopen(folder, config, trainer))
        needed.append(at_start)
    return [*needed, *chosen.values()]


@stop_signals.handled()
def train(config: DictConfig) -> float:
    """Trains in the run's own folder; returns the validation loss, else the train loss.

    A failed member of a sweep records the reason and returns infinity, so that the others run.
    """
    quiet()
    hydra = HydraConfig.get()
    if "joblib" in str(hydra.launcher):  # members share the terminal: number their lines
        for handler in logging.getLogger().handlers:
            if type(handler) is logging.StreamHandler:
                handler.setFormatter(PrintableFormatter(f"#{hydra.job.num}: %(message)s"))
    folder = Path(hydra.runtime.output_dir)
    with locked(folder):
        begin(folder, config)
        if not is_finished(folder, config):
            try:
                fit(config)
            except Exception as error:
                if hydra.mode != RunMode.MULTIRUN:
                    if isinstance(error, DivergedError):
                        fail(folder, error)
                    raise
                known = cli.user_message(error) is not None
                log.error("failed: %s", fail(folder, error), exc_info=None if known else error)
                return math.inf
        return objective(read_metrics(folder))


@contextmanager
def _resume_hint(folder: Path) -> Iterator[None]:
    """Logs the resume command if a signal or a disk error ends the run."""
    try:
        yield
    except (Stopped, OSError) as error:
        if (folder / LAST).exists():
            why = "the last checkpoint is intact"
            if isinstance(error, Stopped):
                why = f"stopped by {error.signal.name}"
            resume = shlex.quote(f"resume={shown(folder)}")
            log.info("%s; resume: python train.py %s", why, resume)
        raise
