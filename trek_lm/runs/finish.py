"""Results of a finished run: metrics.json, samples.txt, TensorBoard's row, terminal output."""

import logging
import math
import shlex
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from pytorch_lightning import Trainer

from trek_lm import cli
from trek_lm.errors import UserError
from trek_lm.files import atomic_write, write_text
from trek_lm.generation.api import CharLM
from trek_lm.runs.dashboard import log_final
from trek_lm.runs.folder import BEST, LAST, SAMPLES, read_metrics, shown, write_metrics
from trek_lm.training.gradient_guard import GradientGuard
from trek_lm.training.recorder import Recorder
from trek_lm.training.trainer import callbacks_of, data_of

log = logging.getLogger(__name__)


def choose_last_unless_validated(folder: Path, trainer: Trainer) -> None:
    """Copies last.ckpt to best.ckpt if the run never reached a validation."""
    if trainer.is_global_zero and not (folder / BEST).is_file():
        with atomic_write(folder / BEST) as file:
            file.write((folder / LAST).read_bytes())
    trainer.strategy.barrier("best.ckpt")


def finish(folder: Path, config: DictConfig, trainer: Trainer, provenance: dict[str, Any]) -> None:
    """Writes a run's results and provenance, and prints the results.

    Raises UserError, after writing, if the loss isn't finite.
    """
    metrics = final_metrics(config, trainer) | provenance
    lines: list[str] = []
    if trainer.is_global_zero:
        if not metrics["reason"]:
            lines = CharLM.load(folder / BEST).generate(n=10, seed=config.seed)
            write_text(folder / SAMPLES, "\n".join(lines) + "\n")
            log_final(config, trainer, metrics, lines)
        # Written last, because it marks the run as finished.
        write_metrics(folder, metrics)
    trainer.strategy.barrier("metrics.json")  # every rank reads the objective from it
    if metrics["reason"]:
        raise UserError(f"{metrics['reason']}; try a smaller optim.lr")
    if trainer.is_global_zero:
        _report(folder, metrics, lines)


def fail(folder: Path, error: Exception) -> str:
    """Records in `metrics.json` that a run failed, and returns the reason."""
    reason = cli.user_message(error) or cli.first_line(error)
    metrics = read_metrics(folder)  # of an earlier end, if any
    write_metrics(folder, metrics | {"status": "failed", "reason": reason})
    return reason


def final_metrics(config: DictConfig, trainer: Trainer) -> dict[str, Any]:
    """The content of `metrics.json`; missing and non-finite values are None."""
    (recorder,) = callbacks_of(trainer, Recorder)
    data = data_of(trainer)
    module: Any = trainer.lightning_module
    test = {name: float(value) for name, value in trainer.callback_metrics.items()}
    scores = test | recorder.train | recorder.val  # val: of the best epoch, not of the last
    diverged = not all(map(math.isfinite, scores.values()))
    named = {
        f"{split}/{name}": _finite(scores.get(f"{split}/{name}"))
        for split in ("train", "val", "test")
        for name in ("loss", "acc", "bpc", "perplexity")
    }
    return named | {
        "parameters": sum(p.numel() for p in module.parameters() if p.requires_grad),
        "engine": module.model.engine,
        "precision": trainer.precision,
        "epochs": recorder.epochs,
        "steps": trainer.global_step,
        "max_steps": None if trainer.max_steps == -1 else trainer.max_steps,
        "budget": config.budget,
        "train_seconds": round(recorder.train_seconds, 3),
        "chars_per_second": round(recorder.chars_per_second, 1),
        "corpus": data.corpus.name,
        "corpus_sha256": data.corpus.sha256,
        **{f"{split}_chars": count for split, count in data.characters.items()},
        "seed": config.seed,
        "skipped_steps": sum(guard.skipped for guard in callbacks_of(trainer, GradientGuard)),
        "status": "failed" if diverged else "finished",
        "reason": "training diverged: its loss or perplexity is not finite" if diverged else None,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _report(folder: Path, metrics: dict[str, Any], lines: list[str]) -> None:
    """Prints the score, three lines and the next commands; a sweep has its leaderboard."""
    if metrics["test/acc"] is not None:
        log.info(
            "test accuracy %.4f, %.3f bits per character", metrics["test/acc"], metrics["test/bpc"]
        )
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return
    for line in "\n".join(lines).split("\n")[:3]:
        log.info("    %s", line)
    where = shown(folder)
    log.info("run folder:  %s", where)
    log.info("more lines:  python sample.py %s", shlex.quote(f"ckpt={where}"))
    logdir = where if where.is_absolute() else where.parts[0]
    log.info("dashboard:   tensorboard --logdir %s", shlex.quote(str(logdir)))
