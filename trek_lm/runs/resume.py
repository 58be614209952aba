"""Checks before a run is resumed, and changes to its folder."""

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
    """Checks that a run can be resumed, and voids what it logged after its last checkpoint.

    Raises UserError if the checkpoint can't be read, or if the corpus, its split, the model or the
    number of processes has changed.
    """
    last = folder / LAST
    checkpoint = read_checkpoint(last)
    try:
        saved = checkpoint[type(data).__name__]
        corpus, split = saved["corpus_sha256"], saved["split_sha256"]
        epochs, ranks = int(checkpoint["recorder"]["epochs"]), len(checkpoint["ranks"])
        steps, within_epoch = progress_of(checkpoint)
    except (KeyError, TypeError) as error:
        raise UserError(f"{last}: not a checkpoint that a run can be resumed from") from error
    key = f"resume={shown(folder)}"
    if corpus != data.corpus.sha256:
        raise UserError(
            f"{key}: data={data.corpus.name} is not the corpus that the run began with "
            f"(fingerprint {data.corpus.sha256[:8]}, not {corpus[:8]})"
        )
    if split != data.split_sha256:  # episodes are split by their names
        raise UserError(
            f"{key}: the held-out lines are not those that the run began with; were the corpus's "
            "files renamed?"
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
    """Marks the folder as in progress and saves the current config.

    Called just before the first step, so that an earlier error leaves the folder unchanged.
    """
    if trainer.is_global_zero:
        remove_leftovers(folder)
        (folder / METRICS).unlink(missing_ok=True)  # the run is no longer finished
        write_settings(folder, config)
