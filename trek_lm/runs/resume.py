"""Resuming a run in its folder: is what it needs still there, and what is written anew."""

import logging
from pathlib import Path

from omegaconf import DictConfig
from pytorch_lightning import Trainer

from trek_lm.data.datamodule import TranscriptDataModule
from trek_lm.errors import UserError
from trek_lm.files import remove_leftovers
from trek_lm.generation.api import CharLM
from trek_lm.models.load_checkpoint import read_checkpoint
from trek_lm.runs.dashboard import TensorBoard
from trek_lm.runs.folder import BEST, LAST, METRICS, shown, write_settings
from trek_lm.terminal import count
from trek_lm.training.lightning_internals import progress_of
from trek_lm.training.module import CharModule
from trek_lm.training.trainer import check_reached

log = logging.getLogger(__name__)


def check_resumable(
    folder: Path, trainer: Trainer, data: TranscriptDataModule, module: CharModule
) -> None:
    """Makes ready to resume: what the run logged after its last checkpoint is void.

    Raises UserError where its checkpoint can't be read, and where the corpus, the model or the
    number of processes isn't what it was.
    """
    last = folder / LAST
    checkpoint = read_checkpoint(last)
    try:
        saved = checkpoint[type(data).__name__]
        corpus, split = saved["corpus_sha256"], saved["split_sha256"]
        epochs, ranks = int(checkpoint["recorder"]["epochs"]), len(checkpoint["ranks"])
        steps, within_epoch = progress_of(checkpoint)
    except (KeyError, TypeError) as error:
        raise UserError(f"{last}: no run can be resumed from this checkpoint") from error
    key = f"resume={shown(folder)}"
    if corpus != data.corpus.sha256:
        raise UserError(
            f"{key}: data={data.corpus.name} is not the corpus that the run began with "
            f"(fingerprint {data.corpus.sha256[:8]}, not {corpus[:8]})"
        )
    if split != data.split_sha256:  # whole episodes are drawn by their names
        raise UserError(
            f"{key}: other lines are held out than when the run began; were the corpus's files "
            "renamed?"
        )
    for path in filter(Path.is_file, (last, folder / BEST)):
        if CharLM.load(path).model.spec != module.model.spec:
            raise UserError(f"{path}: not a checkpoint of this run's model")
    if ranks != trainer.world_size:
        raise UserError(
            f"{key}: the run has {ranks} processes, not {trainer.world_size}: set "
            "trainer.devices and trainer.num_nodes as they were"
        )
    check_reached(trainer, epochs, steps, within_epoch)
    if isinstance(trainer.logger, TensorBoard):
        trainer.logger.void_after(steps)
    if trainer.is_global_zero:
        log.info("resuming %s after %s", shown(folder), count(steps, "step"))


def reopen(folder: Path, config: DictConfig, trainer: Trainer) -> None:
    """Turns a run's folder back into that of a run under way, with its settings of now.

    When the first step is about to be made: a mistake that shows before leaves all as it was.
    """
    if trainer.is_global_zero:
        remove_leftovers(folder)
        (folder / METRICS).unlink(missing_ok=True)  # it is not at its end any more
        write_settings(folder, config)
